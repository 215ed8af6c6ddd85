"""Checks of data, weights and configs before a run starts."""
