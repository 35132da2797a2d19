"""Chooses thresholds: counts what every setting would give, and spends a budget of false alarms."""
