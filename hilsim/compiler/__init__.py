"""Will it compile: exported graphs, the rules of a compiler, findings, rewrites that are proven equal, and their price."""
