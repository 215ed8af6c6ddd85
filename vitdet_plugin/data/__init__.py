"""Transforms, data sets, checks and conversions."""
