"""VidPrism Edge: video networks of several experts on small devices, each expert run only when needed."""
