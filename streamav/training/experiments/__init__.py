"""Runs whole trainings: several seeds, the paper's tables, the study, reports and bundles."""
