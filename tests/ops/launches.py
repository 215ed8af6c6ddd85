"""Calls of every operator's Triton implementation, forward and backward, for compiling ahead of time."""

import importlib
from types import ModuleType

import torch


def kernels(name: str) -> ModuleType:
    """Return the module of an operator's kernels."""
    package = 'ops_dcnv3' if name == 'dcnv3' else f'vitdet_plugin.ops.{name}'
    return importlib.import_module(f'{package}.triton_kernels')


def rel_pos_attention(dtype: torch.dtype, groups=2, heads=3, queries=196, height=14, width=14, dim=64) -> None:
    from vitdet_plugin.ops.rel_pos_attention import triton
    shapes = [(queries, dim), (height * width, dim), (height * width, dim), (queries, height), (queries, width)]
    tensors = [torch.zeros(groups, heads, *shape, dtype=dtype) for shape in shapes]
    out, lse = triton._forward(*tensors, 0.3)
    triton._backward(out, *tensors, out, lse, 0.3)


def dcnv3(dtype: torch.dtype, batch=2, size=28, group=4, channels=16, taps=9) -> None:
    from ops_dcnv3 import triton
    shapes = [(batch, size, size, n) for n in (group * channels, group * taps * 2, group * taps)]
    tensors = [torch.zeros(shape, dtype=dtype) for shape in shapes]
    arguments = ([3, 3], [1, 1], [1, 1], [1, 1], group, channels, 1.0, False)
    triton._backward(triton._forward(*tensors, *arguments), *tensors, *arguments)


def outlook_attention(dtype: torch.dtype, batch=2, size=20, heads=6, dim=32) -> None:
    from vitdet_plugin.ops.outlook_attention import triton
    v = torch.zeros(batch, size, size, heads * dim, dtype=dtype)
    a = torch.zeros(batch, size // 2, size // 2, heads * 81, dtype=dtype)
    out, lse = triton._forward(v, a, heads, 2, 1, 0.2)
    triton._backward(out, v, a, lse, heads, 2, 1, 0.2)


def ms_deform_attn(dtype: torch.dtype, batch=2, queries=300, heads=8, channels=32, levels=4, points=4) -> None:
    from vitdet_plugin.ops.ms_deform_attn import triton
    sizes = [(16 >> level, 24 >> level) for level in range(levels)]
    pixels = sum(height * width for height, width in sizes)
    shapes = [(batch, pixels, heads, channels), (batch, queries, heads, levels, points, 2),
              (batch, queries, heads, levels, points)]
    value, locations, weights = (torch.zeros(shape, dtype=dtype) for shape in shapes)
    table = triton._levels(sizes, value.device)
    triton._backward(triton._forward(value, locations, weights, table), value, locations, weights, table)


def mlstm(dtype: torch.dtype, heads=4, tokens=300, dim=96) -> None:
    from vitdet_plugin.ops.mlstm import triton
    tensors = [*(torch.zeros(heads, tokens, dim, dtype=dtype) for _ in range(3)), torch.zeros(heads, tokens),
               torch.zeros(heads, tokens)]
    results = triton._forward(*tensors, None)
    triton._backward(results[0], *tensors, *results, None)


def nms(dtype: torch.dtype, boxes=300) -> None:
    from vitdet_plugin.ops import nms
    nms._triton(torch.zeros(boxes, 4), torch.zeros(boxes), 0.5)


#: operator -> function of the dtype
LAUNCH = dict(rel_pos_attention=rel_pos_attention, dcnv3=dcnv3, outlook_attention=outlook_attention,
              ms_deform_attn=ms_deform_attn, mlstm=mlstm, nms=nms)
