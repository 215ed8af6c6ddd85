"""Speed and memory against reference implementations: ``python -m benchmarks [NAME…]``.

A benchmark is a module of this package with a docstring and ``rows(quick: bool) -> Iterable[Row]``, see ``harness``.
"""
