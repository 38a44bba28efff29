"""Will it compile: exported graphs, a compiler's rules, findings, rewrites that are proven equal, and their price."""
