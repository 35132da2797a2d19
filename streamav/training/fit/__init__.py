"""Fits one network: targets, losses, the loop, selection, state, several processes."""
