"""Operators that have several exact implementations, each in ``ops/<operator>/``.

``reference.py`` is the readable formula, the other modules are the fast forms. :mod:`vitdet_plugin.ops.dispatch`
chooses among them; :func:`backend_info` and ``python -m vitdet_plugin.ops`` report the choice and its reasons.
Compiled kernels are optional: ``python -m vitdet_plugin.ops.build`` builds them.
"""

from vitdet_plugin.ops.dispatch import backend_info

__all__ = ['backend_info']
