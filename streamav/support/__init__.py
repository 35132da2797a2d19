"""Collects what people who help need to know of an installation, without secrets and media; keeps the newest lines of the log."""
