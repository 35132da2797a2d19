"""Scores of answers against labels: segments, events, streams; pure numpy, no clock, no torch."""
