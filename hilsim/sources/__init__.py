"""Where tokens come from: what answers a policy's questions about text."""
