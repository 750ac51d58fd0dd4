"""Calibration data, quantisation recipes and gate thresholds."""
