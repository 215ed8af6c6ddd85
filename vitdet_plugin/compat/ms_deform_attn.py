"""Multi-scale deformable attention under mmcv's names.

On the CPU, mmcv calls its PyTorch implementation, which :func:`install` replaces by this project's operator. It also
replaces the forward pass of mmcv's module on a CPU, which computes the sampling locations by operations on pairs of
numbers. The functions with the signatures of mmcv's extension are for accelerators without compiled operators; they
call the same function.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vitdet_plugin.compat.patching import Patch
from vitdet_plugin.compat.precision import widen
from vitdet_plugin.utils.exporting import is_exporting

_PATCH = Patch('mmcv.ops.multi_scale_deform_attn', 'multi_scale_deformable_attn_pytorch', upstream='mmcv 2.1, '
               'onedl-mmcv 2.3', why='samples with grid_sample, the slowest part of DINO and Deformable DETR on a CPU')

_FORWARD = Patch('mmcv.ops.multi_scale_deform_attn.MultiScaleDeformableAttention', 'forward', upstream='mmcv 2.1, '
                 'onedl-mmcv 2.3', why='computes the sampling locations by slow operations on pairs of numbers')


def install(attend: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    """Replace mmcv's PyTorch implementation and the forward pass on a CPU; both remain in use for exports.

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
    _FORWARD.install(_forward_on_cpu)


def _forward_on_cpu(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @functools.wraps(original)
    def forward(self: nn.Module, query: Tensor, key: Tensor | None = None, value: Tensor | None = None,
                identity: Tensor | None = None, query_pos: Tensor | None = None,
                key_padding_mask: Tensor | None = None, reference_points: Tensor | None = None,
                spatial_shapes: Tensor | None = None, level_start_index: Tensor | None = None,
                **options: Any) -> Tensor:
        # the sizes of a graph that is being captured are not a tensor
        supported = reference_points is not None and isinstance(spatial_shapes, Tensor) and 'residual' not in options
        if not supported or query.device.type != 'cpu' or is_exporting():
            given = dict(key=key, value=value, identity=identity, query_pos=query_pos,
                         key_padding_mask=key_padding_mask, reference_points=reference_points,
                         spatial_shapes=spatial_shapes, level_start_index=level_start_index)
            return original(self, query, **{name: each for name, each in given.items() if each is not None}, **options)
        identity = query if identity is None else identity
        value = query if value is None else value
        query = query if query_pos is None else query + query_pos
        if not self.batch_first:
            query, value = query.transpose(0, 1), value.transpose(0, 1)
        out = self.output_proj(_sample(self, query, value, key_padding_mask, reference_points, spatial_shapes))
        return self.dropout(out if self.batch_first else out.transpose(0, 1)) + identity

    return forward


def _sample(module: nn.Module, query: Tensor, value: Tensor, key_padding_mask: Tensor | None,
            reference_points: Tensor, spatial_shapes: Tensor) -> Tensor:
    """Attend to the values at the locations that the queries (N, Q, C) predict; returns (N, Q, C')."""
    from mmcv.ops import multi_scale_deform_attn as mmcv_module

    value = module.value_proj(value)
    if key_padding_mask is not None:
        value = value.masked_fill(key_padding_mask[..., None], 0)
    heads, shape = (module.num_heads, -1), (module.num_heads, module.num_levels, module.num_points)
    weights = module.attention_weights(query).unflatten(-1, heads).softmax(-1).view(*query.shape[:2], *shape)
    offsets = module.sampling_offsets(query).unflatten(-1, heads)
    locations = sampling_locations(offsets, reference_points, spatial_shapes, module.num_points)
    return mmcv_module.multi_scale_deformable_attn_pytorch(value.unflatten(-1, heads), spatial_shapes, locations,
                                                           weights)


def sampling_locations(offsets: Tensor, reference_points: Tensor, spatial_shapes: Tensor, num_points: int) -> Tensor:
    """Add scaled offsets to the reference points, in one pass over rows of ``levels * points * 2`` numbers.

    Args:
        offsets: (N, Q, heads, levels * points * 2), x and y in pixels of each level; for boxes, in units of half the
            size of the box divided by the number of points.
        reference_points: (N, Q, levels, 2), x and y in fractions of the map; or (N, Q, levels, 4), boxes.
        spatial_shapes: (levels, 2), height and width of each level.
        num_points: Number of points of each level.

    Returns:
        (N, Q, heads, levels, points, 2), of the wider dtype of both.

    Raises:
        ValueError: ``reference_points`` has neither 2 nor 4 numbers.
    """
    if reference_points.shape[-1] not in (2, 4):
        raise ValueError(f'reference_points has shape {tuple(reference_points.shape)}; the last dimension must be 2 '
                         '(points) or 4 (boxes)')
    centers = reference_points[..., :2]
    if reference_points.shape[-1] == 2:
        scale = (1 / spatial_shapes.flip(-1).to(centers.dtype)).expand_as(centers)
    else:
        scale = reference_points[..., 2:] * (0.5 / num_points)
    # (N, Q, levels, 2) -> (N, Q, 1, levels * points * 2), the order of the offsets
    centers, scale = (each[..., None, :].expand(*each.shape[:3], num_points, 2).flatten(2)[:, :, None]
                      for each in (centers, scale))
    locations = torch.addcmul(centers, offsets, scale)
    return locations.unflatten(-1, (-1, num_points, 2))


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
