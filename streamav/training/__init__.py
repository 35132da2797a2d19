"""Training: data, losses, the training loop, and the construction of the starter model."""
