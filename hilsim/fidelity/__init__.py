"""How far the chips can be trusted: measured figures, predictions of them, the fit of a family's constants."""
