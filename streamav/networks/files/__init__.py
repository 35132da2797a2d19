"""Reads weights from files of other projects without running any code in them."""
