"""The live dashboard and what it is made of."""
