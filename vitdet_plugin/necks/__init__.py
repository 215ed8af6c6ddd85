"""Necks between a backbone and its heads."""

from vitdet_plugin import register_all

register_all()  # these modules need the stack; see vitdet_plugin/__init__.py
