"""Features and labels on disk, and the batches and windows that are made of them."""
