"""Necks between a backbone and its heads."""
