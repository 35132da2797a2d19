"""Reads features and labels from disk, and makes batches and windows of them."""
