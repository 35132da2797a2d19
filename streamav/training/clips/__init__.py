"""Handles a user's own clips and AVE's videos: tables, splits, features, calibration material."""
