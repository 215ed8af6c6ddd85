"""Linear layers with an activation in one product, by oneDNN's kernels at inference on a CPU.

``F.linear`` first writes the bias to the result, and an activation reads and writes it once more. oneDNN, which PyTorch
contains, adds the bias and computes the activation while the result is in the cache.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from vitdet_plugin.ops.case import case_of
from vitdet_plugin.utils.module_hooks import has_hooks

_PLAIN = ('none', '')
#: activation module -> oneDNN's name of it and of its variant
_ACTIVATIONS: dict[type[nn.Module], tuple[str, str]] = {nn.GELU: ('gelu', 'none'), nn.ReLU: ('relu', '')}


def linear(layer: nn.Module, x: Tensor, activation: nn.Module | None = None) -> Tensor:
    """Compute ``activation(layer(x))``, in one product where possible.

    Args:
        layer: A linear layer. One with hooks, or of a derived class such as LoRA's, is called as usual.
        x: (..., in_features).
        activation: Module of the activation; None for none. GELU and ReLU are part of the product.

    Returns:
        (..., out_features).
    """
    if not _can_multiply(layer, x):
        out: Tensor = layer(x)
        return out if activation is None else activation(out)
    kind = None if activation is None else _kind(activation)
    name, variant = kind or _PLAIN
    dtype = _dtype(x)
    weight, bias = (None if each is None else each.to(dtype) for each in (layer.weight, layer.bias))
    out = torch.ops.mkldnn._linear_pointwise(x.to(dtype), weight, bias, name, [], variant)
    return out if activation is None or kind is not None else activation(out)


def is_plain(*layers: nn.Module) -> bool:
    """Whether the layers do nothing but a product with their weight, so that they need not be called.

    Layers of another class (LoRA, quantized) and layers with hooks have to be called.
    """
    return all(type(layer) is nn.Linear and not has_hooks(layer) for layer in layers)


def _kind(activation: nn.Module) -> tuple[str, str] | None:
    plain = not has_hooks(activation) and getattr(activation, 'approximate', 'none') == 'none'
    return _ACTIVATIONS.get(type(activation)) if plain else None


def _can_multiply(layer: nn.Module, x: Tensor) -> bool:
    if not is_plain(layer):
        return False
    case = case_of(x)
    if case.device != 'cpu' or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    if case.exporting or case.transformed:
        return False
    dtype = _dtype(x)
    return x.numel() > 0 and dtype in _dtypes() and (layer.weight.dtype == dtype or torch.is_autocast_enabled('cpu'))


def _dtype(x: Tensor) -> torch.dtype:
    """Return the type in which autocast multiplies, or that of ``x``."""
    return torch.get_autocast_dtype('cpu') if torch.is_autocast_enabled('cpu') else x.dtype


@functools.cache
def _dtypes() -> tuple[torch.dtype, ...]:
    """Types that oneDNN multiplies fast on this processor."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, '_linear_pointwise'):
        return ()
    dtypes = [torch.float32] if torch.backends.cpu.get_cpu_capability() in ('AVX2', 'AVX512') else []
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        dtypes.append(torch.bfloat16)
    return tuple(dtypes)
