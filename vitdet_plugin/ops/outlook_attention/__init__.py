"""Outlook attention (VOLO, arXiv 2106.13112, section 3.1), in interchangeable exact forms.

At each position of a coarse grid, attention weights among the k x k positions around it are *predicted* (there are no
queries and keys). The window's values are averaged with these weights, and overlapping windows are summed.

======  ================  =============================================================================================
form    module            description
======  ================  =============================================================================================
native  ``cpu.py``        compiled kernel that stores neither the unfolded values nor the probabilities (CPU, k = 3)
triton  ``triton.py``     the same on a GPU, without a build step (k = 3)
plain   ``reference.py``  unfold, softmax, product, fold; on any device; used for ONNX
======  ================  =============================================================================================
"""

from __future__ import annotations

from torch import Tensor

from vitdet_plugin.ops.case import case_of
from vitdet_plugin.ops.dispatch import Operator
from vitdet_plugin.ops.outlook_attention import cpu, reference, triton

OPERATOR = Operator('outlook_attention', [cpu.BACKEND, triton.BACKEND, reference.BACKEND])


def outlook_attention(v: Tensor, a: Tensor, num_heads: int, *, kernel_size: int = 3, stride: int = 2, padding: int = 1,
                      scale: float = 1.0, dropout: float = 0.0, form: str | None = 'auto') -> Tensor:
    """Average the values of each window with the weights ``softmax(scale * a)`` and sum the windows.

    With k = ``kernel_size`` and h = (H + 2 * padding - k) // stride + 1, w likewise:

    Args:
        v: (B, H, W, C), values.
        a: (B, h, w, num_heads * k^4), scores; for each head a k^2 x k^2 matrix, one row for each output position.
        num_heads: number of heads; divides C.
        kernel_size, stride, padding: parameters of the windows.
        scale: factor of the scores.
        dropout: fraction of the weights set to zero; the forms native and triton require 0.
        form: form to use; None or 'auto' for the kernel of the device where it can serve the call.

    Returns:
        (B, H, W, C).

    Raises:
        BackendError: ``form`` is unknown, or a kernel is named and cannot serve this call.
    """
    case = case_of(v, kernel_size=kernel_size, dropout=dropout)
    out: Tensor = OPERATOR.choose(case, form).run(v, a, num_heads, kernel_size, stride, padding, scale, dropout)
    return out
