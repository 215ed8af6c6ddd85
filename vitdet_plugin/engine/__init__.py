"""Training machinery: optimiser groups, hooks, loops, resuming, launch."""
