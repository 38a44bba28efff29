"""Units whose steps a board or a recording executes: times, quality of measurement, comparison with the chip model."""
