"""Training: data, losses, the loop, and the making of the starter model."""
