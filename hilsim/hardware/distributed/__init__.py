"""Runs that are really distributed: two agents and a link between them, by the wall's clock."""
