"""Heads and RoI heads."""
