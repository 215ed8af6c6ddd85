"""Official checkpoint formats in, ours out: one file a family."""
