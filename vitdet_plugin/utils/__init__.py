"""Helpers without a domain of their own: terminal output, progress, paths, text."""
