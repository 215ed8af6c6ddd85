"""Multi-scale deformable attention under mmcv's names.

On the CPU, mmcv calls its PyTorch implementation, which :func:`install` replaces by this project's operator. The
functions with the signatures of mmcv's extension are for accelerators without compiled operators; they call the same
function.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from vitdet_plugin.compat.patching import Patch
from vitdet_plugin.compat.precision import widen
from vitdet_plugin.utils.exporting import is_exporting

_PATCH = Patch('mmcv.ops.multi_scale_deform_attn', 'multi_scale_deformable_attn_pytorch', upstream='mmcv 2.1, '
               'onedl-mmcv 2.3', why='samples with grid_sample, the slowest part of DINO and Deformable DETR on a CPU')


def install(attend: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    """Replace mmcv's PyTorch implementation, which remains in use for exports.

    Args:
        attend: Function of value, spatial shapes, locations and weights (shapes as in :func:`ms_deform_attn_forward`).
    """
    def wrap(original: Callable) -> Callable:
        @functools.wraps(original)
        def attention(value: Tensor, value_spatial_shapes: Tensor, sampling_locations: Tensor,
                      attention_weights: Tensor) -> Tensor:
            run = original if is_exporting() else attend
            return run(value, value_spatial_shapes, sampling_locations, attention_weights)

        return attention

    _PATCH.install(wrap)


def ms_deform_attn_forward(value: Tensor, value_spatial_shapes: Tensor, value_level_start_index: Tensor,
                           sampling_locations: Tensor, attention_weights: Tensor, im2col_step: int) -> Tensor:
    """Weighted sum of bilinear samples.

    Args:
        value: (N, sum of H*W over levels, heads, C).
        value_spatial_shapes: (levels, 2), H and W.
        value_level_start_index, im2col_step: Part of the signature; not used.
        sampling_locations: (N, queries, heads, levels, points, 2), x and y in [0, 1].
        attention_weights: (N, queries, heads, levels, points).

    Returns:
        (N, queries, heads * C), of the dtype of ``value``.
    """
    return _attend(value, value_spatial_shapes, sampling_locations, attention_weights).to(value.dtype)


def ms_deform_attn_backward(value: Tensor, value_spatial_shapes: Tensor, value_level_start_index: Tensor,
                            sampling_locations: Tensor, attention_weights: Tensor, grad_output: Tensor,
                            grad_value: Tensor, grad_sampling_loc: Tensor, grad_attn_weight: Tensor,
                            im2col_step: int) -> None:
    """Fill the gradients of value, locations and weights (shapes as above)."""
    inputs = [t.detach().requires_grad_() for t in (value, sampling_locations, attention_weights)]
    with torch.enable_grad():
        output = _attend(inputs[0], value_spatial_shapes, inputs[1], inputs[2])
    grads = torch.autograd.grad(output, inputs, grad_output.to(output.dtype))
    for mine, grad in zip((grad_value, grad_sampling_loc, grad_attn_weight), grads):
        mine.copy_(grad)


def _attend(value: Tensor, spatial_shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    value, locations, weights = widen(value, locations, weights)
    with torch.autocast(value.device.type, enabled=False):
        return multi_scale_deformable_attn_pytorch(value, spatial_shapes, locations, weights)
