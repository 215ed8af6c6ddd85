"""Configs: loading, command-line options, registry look-up, and errors explained in one line."""
