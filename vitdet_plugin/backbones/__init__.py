"""Backbones: one family a file, named after its paper."""
