"""Composite scenes: photos shown on backdrops and sounds played over ambience, with exactly known onsets and offsets."""
