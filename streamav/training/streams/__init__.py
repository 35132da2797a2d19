"""Runs trained networks on streams, scores them there, and tunes detection settings."""
