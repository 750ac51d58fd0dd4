"""From a network to a bundle: the pipeline of stages, graph passes, targets and verification."""
