"""Backbones: one file for each family, named after its paper."""
