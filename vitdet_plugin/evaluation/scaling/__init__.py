"""Computed (not measured) memory, speed and network traffic of a training step: ``vitdet flops --plan``."""
