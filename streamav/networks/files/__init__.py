"""Reads weights from files of other people, without running anything in them."""
