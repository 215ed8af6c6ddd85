"""Checks of annotations and images before a run starts."""
