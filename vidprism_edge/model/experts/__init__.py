"""The three experts: spatial, temporal and hybrid."""
