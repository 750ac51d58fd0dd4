"""Training: what the runtime's own sampler takes from clips, cached, augmented and learned from."""
