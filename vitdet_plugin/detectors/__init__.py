"""Detectors that mmdet does not have."""

from vitdet_plugin import register_all

register_all()  # these modules need the stack; see vitdet_plugin/__init__.py
