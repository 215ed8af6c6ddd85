"""Let inductor order strides that are symbols of a graph.

Inductor of torch 2.14 sorts the strides of a tensor in several places without the symbols' values. Where one of them is
a quotient of a size, such as 8 * (H // 4), sympy cannot compare it with a number, and the compilation fails.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch

from vitdet_plugin.compat.patching import Patch

_ORDER = Patch('torch._inductor.ir', 'get_fill_order', upstream='torch 2.14',
               why='fails for strides that are quotients of symbolic sizes; the order for the given sizes is used, '
                   'with a guard (installed when torch.compile captures a backbone)')


@torch.compiler.assume_constant_result
def install_for_compilation() -> bool:
    """Install the patch; called by a forward pass while it is captured, and not part of the graph.

    Returns:
        Whether this version of torch has the patched function; a version that lacks it is left as it is.
    """
    from torch._inductor import ir

    if not hasattr(ir, _ORDER.name):
        return False
    _ORDER.install(_with_symbols)
    return True


def _with_symbols(get_fill_order: Callable) -> Callable:
    @functools.wraps(get_fill_order)
    def with_symbols(seq: Sequence[Any], shape_env: Any = None) -> Sequence[int]:
        try:
            return get_fill_order(seq, shape_env)
        except TypeError:  # of sympy: cannot determine truth value
            from torch._inductor.virtualized import V

            own = getattr(getattr(V.graph, 'sizevars', None), 'shape_env', None)
            if shape_env is not None or own is None:
                raise
            return get_fill_order(seq, own)

    return with_symbols
