"""Runner, loops, hooks, optimizer groups, resuming, and distributed training."""

from vitdet_plugin import register_all

register_all()  # these modules need the stack; see vitdet_plugin/__init__.py
