"""Chooses thresholds: counts the events of every setting, and distributes a budget of false alarms over the classes."""
