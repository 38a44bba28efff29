REMEDIES: dict[str, str] = {}
