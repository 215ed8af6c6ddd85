"""Latency, throughput and accuracy of a model by backend, precision, threads, batch and input size."""

from vitdet_plugin import register_all

register_all()  # these modules need the stack; see vitdet_plugin/__init__.py
