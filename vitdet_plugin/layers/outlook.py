"""Outlook attention (VOLO, arXiv 2106.13112, section 3.1), in interchangeable exact forms.

From each place of a coarse grid, attention weights among the k x k places around it are *predicted* (no queries, no
keys), the window's values are averaged by them and the results are added up where windows overlap.

========  ==============================================================================================
plain     unfold, softmax, product, fold: the formula as it stands, on any device; what exports to ONNX.
native    a compiled kernel that keeps neither the unfolded values nor the probabilities (CPU, k = 3).
========  ==============================================================================================
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ops_dcnv3 import native
from vitdet_plugin.errors import UserError

FORMS = ('auto', 'plain', 'native')
_NATIVE_DTYPES = (torch.float32, torch.float64, torch.bfloat16)
_NATIVE_KERNEL = 3
_NATIVE_IS_BUILT = native.has_operator('outlook_attention')  # ops_dcnv3 compiles and loads it


def outlook_attention(v: Tensor, a: Tensor, num_heads: int, *, kernel_size: int = 3, stride: int = 2, padding: int = 1,
                      scale: float = 1.0, dropout: float = 0.0, form: str = 'auto') -> Tensor:
    """Average the values of each window by ``softmax(scale * a)`` and add up the windows.

    With k = ``kernel_size`` and h = (H + 2 * padding - k) // stride + 1, w likewise:

    Args:
        v: (B, H, W, C), values.
        a: (B, h, w, num_heads * k^4), scores; of each head a k^2 x k^2 matrix, one row a place of the result.
        scale: factor of the scores.
        dropout: share of the weights set to zero; not 0 only in the plain form.
        form: one of ``FORMS``; 'auto' takes the compiled kernel for tensors that it serves.

    Returns:
        (B, H, W, C).

    Raises:
        UserError: ``form`` is unknown, or the compiled kernel is asked for and not there, or does not serve this.
    """
    if form not in FORMS:
        raise UserError(f'outlook form {form!r} is unknown; choose one of {", ".join(FORMS)}')
    if form == 'auto':
        form = 'plain' if _why_not_native(v, kernel_size, dropout) else 'native'
    if form == 'native':
        if reason := _why_not_native(v, kernel_size, dropout):
            raise UserError(f"outlook form 'native' {reason}; take 'auto' or 'plain'")
        return torch.ops.vitdet_plugin.outlook_attention(v, a, num_heads, stride, padding, scale)
    return _plain(v, a, num_heads, kernel_size, stride, padding, scale, dropout)


def native_is_built() -> bool:
    """Whether the compiled kernel is loaded."""
    return _NATIVE_IS_BUILT


def _why_not_native(v: Tensor, kernel_size: int, dropout: float) -> str | None:
    if not native_is_built():
        return 'is not compiled here (python -m ops_dcnv3.build)'
    if v.device.type not in ('cpu', 'meta'):
        return f'does not serve tensors on {v.device.type}'
    if kernel_size != _NATIVE_KERNEL or dropout:
        return f'serves kernel_size={_NATIVE_KERNEL} without dropout, not {kernel_size} with {dropout}'
    if v.dtype not in _NATIVE_DTYPES:
        return f'does not serve {v.dtype}'
    if torch.onnx.is_in_onnx_export() or torch.compiler.is_exporting():
        return 'cannot be exported'
    return None


def _plain(v: Tensor, a: Tensor, num_heads: int, kernel_size: int, stride: int, padding: int, scale: float,
           dropout: float) -> Tensor:
    batch, height, width, channels = v.shape
    places, windows = kernel_size**2, a.shape[1] * a.shape[2]
    unfolded = F.unfold(v.permute(0, 3, 1, 2), kernel_size, padding=padding, stride=stride)  # (B, C * k^2, N)
    unfolded = unfolded.reshape(batch, num_heads, channels // num_heads, places, windows).permute(0, 1, 4, 3, 2)
    scores = a.reshape(batch, windows, num_heads, places, places).permute(0, 2, 1, 3, 4)
    weights = F.dropout((scores * scale).softmax(-1).to(v.dtype), dropout)  # (B, heads, N, k^2, k^2)
    out = (weights @ unfolded).permute(0, 1, 4, 3, 2).reshape(batch, channels * places, windows)
    return F.fold(out, (height, width), kernel_size, padding=padding, stride=stride).permute(0, 2, 3, 1)


class OutlookAttention(nn.Module):
    """Values and scores by linear layers (scores from the average of each stride x stride cell), then a projection.

    Args:
        dim, num_heads: channels, and heads that divide them.
        kernel_size, stride, padding: of the windows; the pooled grid and the windows' must agree.
        qkv_bias: whether the values have a bias.
        scale: factor of the scores; default ``(dim / num_heads) ** -0.5``.
        dropout: of the attention weights, in training.
        form: see :func:`outlook_attention`.
    """

    def __init__(self, dim: int, num_heads: int, *, kernel_size: int = 3, stride: int = 2, padding: int = 1,
                 qkv_bias: bool = False, scale: float | None = None, dropout: float = 0.0, form: str = 'auto') -> None:
        super().__init__()
        if dim % num_heads:
            raise UserError(f'{dim} channels cannot be shared among num_heads={num_heads}')
        self.num_heads, self.kernel_size, self.stride, self.padding = num_heads, kernel_size, stride, padding
        self.scale = (dim // num_heads) ** -0.5 if scale is None else scale
        self.dropout, self.form = dropout, form
        self.v = nn.Linear(dim, dim, bias=qkv_bias)
        self.attn = nn.Linear(dim, num_heads * kernel_size**4)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C), any H and W."""
        cells = F.avg_pool2d(x.permute(0, 3, 1, 2), self.stride, self.stride, ceil_mode=True).permute(0, 2, 3, 1)
        y = outlook_attention(self.v(x), self.attn(cells), self.num_heads, kernel_size=self.kernel_size,
                              stride=self.stride, padding=self.padding, scale=self.scale,
                              dropout=self.dropout if self.training else 0.0, form=self.form)
        return self.proj(y)


def _register_native() -> None:
    """Shapes for tracing, and the backward pass, of the compiled operators."""
    name = 'vitdet_plugin::outlook_attention'
    backward: Callable = torch.ops.vitdet_plugin.outlook_attention_backward

    def shape_like_values(v, a, heads, stride, padding, scale):
        return torch.empty_like(v, memory_format=torch.contiguous_format)

    def shapes_like_inputs(grad, v, a, heads, stride, padding, scale):
        return shape_like_values(v, a, heads, stride, padding, scale), shape_like_values(a, v, heads, stride, padding,
                                                                                         scale)

    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:2])
        ctx.arguments = inputs[2:]

    def gradients(ctx, grad):
        return *backward(grad, *ctx.saved_tensors, *ctx.arguments), None, None, None, None

    torch.library.register_fake(name, shape_like_values)
    torch.library.register_fake(f'{name}_backward', shapes_like_inputs)
    torch.library.register_autograd(name, gradients, setup_context=setup_context)


if native_is_built():
    _register_native()
