"""Speed and memory against the reference forms: ``python -m benchmarks [NAME…]``.

A benchmark is a module of this package with a docstring and ``rows(quick: bool) -> Iterable[Row]``, see ``harness``.
"""
