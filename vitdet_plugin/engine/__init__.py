"""Training machinery: optimiser groups, hooks, pre-flight, launch."""
