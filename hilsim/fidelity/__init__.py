"""Validation and calibration of the chip models against measured figures, recorded steps and logs of real runs."""
