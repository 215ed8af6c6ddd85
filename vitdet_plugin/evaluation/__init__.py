"""Metrics beyond those that mmdet ships."""
