"""Layers and tensor functions shared by the backbones."""
