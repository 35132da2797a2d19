"""Measures: one engine's speed, how many streams a machine carries, each in a process of its own."""
