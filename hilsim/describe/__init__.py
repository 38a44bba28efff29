"""What the user describes: chips, links, models, scenarios. Strict loaders into frozen records; nothing is started."""
