"""Measures the speed of engines and how many streams a machine carries; each measurement runs in a separate process."""
