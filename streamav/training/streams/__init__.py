"""Trained networks on streams: run, judged, tuned."""
