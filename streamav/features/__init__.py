"""From a segment to its features: sound and pictures through the encoders, once a second."""
