"""What executes one graph: one file an engine."""
