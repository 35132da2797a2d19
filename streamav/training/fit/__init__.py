"""Fits one network: targets, losses, the training loop, selection, the state of a run, and training in several processes."""
