"""From a network to a bundle: stages, graphs, targets, verification."""
