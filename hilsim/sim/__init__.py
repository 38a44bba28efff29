"""When it happens: chips, links and memory as SimPy resources, policies as generators, a trace as the only output."""
