"""Operators that have several exact implementations, each in ``ops/<operator>/``.

``reference.py`` is the readable formula, the other modules are the fast forms. :mod:`vitdet_plugin.ops.dispatch`
chooses among them; :func:`backend_info` and ``python -m vitdet_plugin.ops`` report the choice and its reasons.
DCNv3 has the same structure in the package ``ops_dcnv3``. Layers with parameters are in ``vitdet_plugin.layers``.

* A new backend is one module with a ``BACKEND``, and its entry in the list of the operator's ``__init__.py``, which has
  the fastest first. A new operator also gets an entry in ``dispatch.MODULES``.
* Compiled kernels are optional: ``python -m vitdet_plugin.ops.build`` builds all libraries. Every ``csrc/cpu/*.cpp`` of
  a library is compiled; the files share ``csrc/include`` and register their operators with
  ``TORCH_LIBRARY_FRAGMENT(vitdet_plugin, m)``.
* Triton kernels need no build step. ``triton.py`` of an operator registers the kernels of its ``triton_kernels.py``,
  which alone imports Triton; what they share is in ``triton_support.py`` and ``tuning.py``. ``registered.py`` keeps
  PyTorch's dispatcher out of plain calls, whose time on the CPU would exceed that of small kernels.
  ``VITDET_OPS_TRITON=0`` turns them off, ``VITDET_OPS_TUNE=0`` keeps them from measuring block sizes.
* The environment variables ``VITDET_OPS_NATIVE=0`` and ``OPS_DCNV3_NATIVE=0`` turn compiled kernels off,
  ``VITDET_OPS_<OPERATOR>=<backend>`` selects a backend, ``OPS_DCNV3_ISA=base`` or ``avx2`` limits the instruction set.
"""

from vitdet_plugin.ops.dispatch import backend_info

__all__ = ['backend_info']
