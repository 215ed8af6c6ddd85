"""Data sets: readers, converters, checks, statistics, splits."""
