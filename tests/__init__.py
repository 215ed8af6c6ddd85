"""Tests, laid out like the package. A package itself because some distributions install a top-level ``tests``."""
