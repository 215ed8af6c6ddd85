"""Outlook attention by Triton kernels, for GPUs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vitdet_plugin.ops import triton_support, tuning
from vitdet_plugin.ops.dispatch import Backend, Case
from vitdet_plugin.ops.outlook_attention import cpu
from vitdet_plugin.ops.registered import Differentiable, Registered
from vitdet_plugin.ops.triton_support import next_power_of_2
from vitdet_plugin.ops.tuning import Choice, shape_class

_KERNEL_SIZE = 3
_ARGUMENTS = 'int num_heads, int stride, int padding, float scale'


def outlook_attention_triton(v: Tensor, a: Tensor, num_heads: int, kernel_size: int, stride: int, padding: int,
                             scale: float, dropout: float) -> Tensor:
    """Gather the windows of each pixel, for ``kernel_size`` 3 and ``dropout`` 0.

    Arguments as :func:`vitdet_plugin.ops.outlook_attention.outlook_attention`.
    """
    out: Tensor = _operator(*triton_support.to_widest(v, a), num_heads, stride, padding, scale)[0].to(v.dtype)
    return out


def _launch(name: str, kernel: Any, tensors: list[Tensor], v: Tensor, a: Tensor, num_heads: int, stride: int,
            padding: int, scale: float) -> None:
    batch, height, width, channels = v.shape
    dim = channels // num_heads

    def launch(choice: Choice) -> None:
        pixels = -(-height // stride) * -(-width // stride)  # of one remainder
        grid = (-(-pixels // choice.blocks['BLOCK']) * stride * stride * batch * num_heads,)
        kernel[grid](*tensors, height, width, a.shape[1], a.shape[2], num_heads, stride, padding, scale, DIM=dim,
                     BLOCK_D=next_power_of_2(dim), **choice.options)

    sizes = [max(16, size // next_power_of_2(dim)) for size in (2048, 1024)]
    choices = [Choice(dict(BLOCK=sizes[1]), 4), Choice(dict(BLOCK=sizes[0]), 8), Choice(dict(BLOCK=sizes[1]), 2)]
    tuning.launch_tuned((f'outlook_attention {name}', v.dtype, dim, stride, shape_class(batch * height * width)),
                        choices, launch, v)


def _forward(v: Tensor, a: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    """(B, H, W, C) and (B, h, w, heads * 81) of one dtype -> output and logarithms of the sums (B, h, w, heads * 9)."""
    from vitdet_plugin.ops.outlook_attention import triton_kernels
    out, lse = _outputs(v, a, *arguments)
    lse.zero_()  # positions outside the image have no sum
    if out.numel():
        tensors = [v.contiguous(), a.contiguous(), out, lse]
        _launch('forward', triton_kernels.forward_kernel, tensors, v, a, *arguments)
    return out, lse


def _backward(grad: Tensor, v: Tensor, a: Tensor, lse: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    """Return the gradients of v and a."""
    from vitdet_plugin.ops.outlook_attention import triton_kernels
    grad_v, grad_a = v.new_empty(v.shape), a.new_zeros(a.shape)
    if grad.numel():
        grad, values, scores = grad.contiguous(), v.contiguous(), a.contiguous()
        _launch('values', triton_kernels.value_gradient_kernel, [grad, scores, lse, grad_v], v, a, *arguments)
        _launch('scores', triton_kernels.score_gradient_kernel, [grad, values, scores, lse, grad_a], v, a, *arguments)
    return grad_v, grad_a


def _outputs(v: Tensor, a: Tensor, num_heads: int, stride: int, padding: int, scale: float) -> tuple[Tensor, Tensor]:
    return v.new_empty(v.shape), a.new_empty((*a.shape[:3], num_heads * 9), dtype=torch.float32)


_operator = Differentiable(
    'outlook_attention_triton', f'(Tensor v, Tensor a, {_ARGUMENTS}) -> (Tensor, Tensor)', _forward, _outputs,
    Registered('outlook_attention_triton_backward',
               f'(Tensor grad, Tensor v, Tensor a, Tensor lse, {_ARGUMENTS}) -> (Tensor, Tensor)', _backward,
               lambda grad, v, a, *rest: (v.new_empty(v.shape), a.new_empty(a.shape))),
    reference=cpu.reference, saved=(1,), cast=triton_support.to_widest)


def _why_not(case: Case) -> str | None:
    kernel_size, dropout = case.options.get('kernel_size', _KERNEL_SIZE), case.options.get('dropout', 0.0)
    if kernel_size != _KERNEL_SIZE or dropout:
        return f'serves kernel_size={_KERNEL_SIZE} without dropout, not {kernel_size} with {dropout}'
    return triton_support.why_not(case)


BACKEND = Backend('triton', outlook_attention_triton, _why_not)
