"""Configs: names, loading, command-line options, registry look-up, and one-line explanations of errors."""
