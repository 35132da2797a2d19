"""Compares predictions with labels: segments, events and streams. Pure numpy, no clock, no torch."""
