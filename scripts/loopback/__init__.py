"""A testbed for scripts and tests: agents and link ends as processes, two network namespaces, a shaped link."""
