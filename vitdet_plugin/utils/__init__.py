"""Helpers for terminal output, progress, paths and text."""
