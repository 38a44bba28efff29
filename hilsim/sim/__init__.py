"""When it happens: chips, links and memory on SimPy's clock, policies as generators, a trace as the only output."""
