"""Cross-attention of the queries of DETR-style detectors as maps over the image."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitdet_plugin.errors import UserError


def has_queries(model: nn.Module) -> bool:
    """Whether :class:`QueryAttention` can explain the detector: its boxes are those of queries of a decoder."""
    if getattr(model, 'predict_with', 'query') != 'query':  # an auxiliary head of Co-DETR
        return False
    return bool(_cross_attentions(model)) and (hasattr(getattr(model, 'bbox_head', None), 'predict_by_feat') or
                                               hasattr(model, 'panoptic_fusion_head'))


class QueryAttention:
    """Predict one image and record which positions the decoder's cross-attention reads.

    Multi-scale deformable attention (arXiv 2010.04159) samples the feature maps at predicted locations, with predicted
    weights; other attention has one weight for each position of a map. The map of a query is the mean over the heads
    and layers of the decoder. It requires no gradient and is the same for all classes.

    Args:
        model: Detector for which :func:`has_queries` is True.
        inputs: Preprocessed image of shape ``(1, C, H, W)``.
        data_sample: Preprocessed data sample with the meta information of the image.

    Attributes:
        found: The predicted instances, in pixels of the network input.

    Raises:
        UserError: If the decoder reads a sequence that is not one of the feature maps.
    """

    def __init__(self, model: nn.Module, inputs: Tensor, data_sample: Any) -> None:
        self._image_hw = (int(inputs.shape[-2]), int(inputs.shape[-1]))
        record = _Record()
        with torch.no_grad(), _recording(model, record):
            self.found = model.predict(inputs, [copy.deepcopy(data_sample)], rescale=False)[0].pred_instances
        self._reads = record.reads
        if hasattr(model, 'panoptic_fusion_head'):
            self._queries = _query_of_masks(*record.outputs, found=self.found)
        else:
            self._queries = _query_of_boxes(*record.outputs, found=self.found, image_hw=data_sample.img_shape[:2])

    def density(self, index: int) -> Tensor:
        """Return the attention of the query of instance ``index``.

        Returns:
            Density of shape ``(H, W)``, float32. Its sum is 1 unless samples are outside of the image.
        """
        query = int(self._queries[index])
        return torch.stack([read.density(query, self._image_hw) for read in self._reads]).mean(0)


@dataclass
class _Samples:
    """Samples of multi-scale deformable attention.

    Attributes:
        locations: x and y in fractions of the map, of shape ``(Q, heads, levels, points, 2)``.
        weights: Shape ``(Q, heads, levels, points)``; the sum over levels and points is 1.
        sizes: Height and width of each level.
    """

    locations: Tensor
    weights: Tensor
    sizes: list[tuple[int, int]]

    def density(self, query: int, image_hw: tuple[int, int]) -> Tensor:
        """Distribute each weight over the area that a bilinear sample reads, two cells of its level wide."""
        locations, weights = self.locations[query].float(), self.weights[query].float()
        total = weights.new_zeros(image_hw)
        for level, size in enumerate(self.sizes):
            x, y = locations[:, level].flatten(0, 1).unbind(-1)
            rows, columns = (_tents(center, cells, side) for center, cells, side in zip((y, x), size, image_hw))
            total += (rows * weights[:, level].flatten()[:, None]).T @ columns
        return total / weights.shape[0]


def _tents(centers: Tensor, cells: int, side: int) -> Tensor:
    """Return for each center (N,), in fractions of a side, the kernel of linear interpolation at each pixel (N, side).

    Args:
        centers: (N,).
        cells: Number of cells of the feature map along the side.
        side: Number of pixels along the side.
    """
    stride = side / cells
    pixels = torch.arange(side, device=centers.device) + 0.5
    return (1 - (pixels - centers[:, None] * side).abs() / stride).clamp(min=0) / stride


@dataclass
class _Weights:
    """Attention weights of one feature map, mean of all heads.

    Attributes:
        weights: Shape ``(Q, h * w)``; the sum over positions is 1.
        size: Height and width of the map.
    """

    weights: Tensor
    size: tuple[int, int]

    def density(self, query: int, image_hw: tuple[int, int]) -> Tensor:
        grid = self.weights[query].float().view(1, 1, *self.size)
        enlarged = F.interpolate(grid, image_hw, mode='bilinear')[0, 0]
        return enlarged * (grid.sum() / enlarged.sum().clamp(min=1e-12))


@dataclass
class _Record:
    """Record of the hooks of one prediction.

    Attributes:
        sizes: Height and width of the feature maps.
        reads: Attention of each layer.
        outputs: Class logits ``(Q, classes)``, and relative boxes ``(Q, 4)`` or mask logits ``(Q, H, W)``.
    """

    sizes: list[tuple[int, int]] = field(default_factory=list)
    reads: list[_Samples | _Weights] = field(default_factory=list)
    outputs: tuple[Tensor, ...] = ()

    def add_maps(self, _module: nn.Module, _args: Any, output: Any) -> None:
        """Store the sizes of feature maps."""
        if isinstance(output, Tensor):
            if output.dim() == 4:
                self.sizes.append((int(output.shape[2]), int(output.shape[3])))
        elif isinstance(output, (tuple, list)):
            for each in output:
                self.add_maps(_module, _args, each)

    def add_samples(self, module: nn.Module, _args: Any, inputs: dict[str, Any]) -> None:
        """Compute the samples of mmcv's ``MultiScaleDeformableAttention``, which does not return them."""
        query, points, sizes = inputs['query'], inputs['reference_points'], inputs['spatial_shapes']
        if inputs.get('query_pos') is not None:
            query = query + inputs['query_pos']
        shape = (*query.shape[:2], module.num_heads, module.num_levels, module.num_points)
        offsets = module.sampling_offsets(query).view(*shape, 2)
        weights = module.attention_weights(query).view(*shape[:3], -1).softmax(-1).view(shape)
        centers = points[:, :, None, :, None, :2]
        if points.shape[-1] == 4:  # boxes: the offsets are relative to half their size
            locations = centers + offsets / module.num_points * points[:, :, None, :, None, 2:] * 0.5
        else:
            locations = centers + offsets / sizes.flip(1)[:, None]
        self.reads.append(_Samples(locations[0], weights[0], [(int(h), int(w)) for h, w in sizes]))

    def add_weights(self, weights: Tensor) -> None:
        """Store attention weights of shape ``(B, Q, h * w)``."""
        fits = [size for size in self.sizes if size[0] * size[1] == weights.shape[2]]
        if not fits:
            raise UserError(f'the decoder reads {weights.shape[2]} positions, which is not the size of a feature map '
                            f"({', '.join(f'{h} x {w}' for h, w in self.sizes)}). Use --method centered.")
        self.reads.append(_Weights(weights[0], fits[-1]))

    def set_outputs(self, inputs: tuple[Any, ...], _outputs: Any) -> None:
        """Store the arguments of ``predict_by_feat`` (the last layer of the first image) or of mask post-processing."""
        self.outputs = tuple(each[-1][0] if each.dim() == 4 else each for each in inputs[:2])


@contextlib.contextmanager
def _recording(model: nn.Module, record: _Record) -> Iterator[None]:
    """Register the hooks that fill ``record`` in a prediction."""
    with contextlib.ExitStack() as stack:
        for module in (model.backbone, getattr(model, 'neck', None),
                       getattr(getattr(model, 'panoptic_head', None), 'pixel_decoder', None)):
            if module is not None:
                stack.callback(module.register_forward_hook(record.add_maps).remove)
        for module in _cross_attentions(model):
            if hasattr(module, 'sampling_offsets'):
                stack.callback(module.register_forward_pre_hook(record.add_samples, with_kwargs=True).remove)
            elif hasattr(module, 'forward_attn'):  # conditional attention
                stack.enter_context(_listening(module, 'forward_attn', lambda _, out: record.add_weights(out[1])))
            else:
                hook = module.attn.register_forward_hook(lambda _module, _args, out: record.add_weights(out[1]))
                stack.callback(hook.remove)

        if hasattr(model, 'panoptic_fusion_head'):
            owner, method = model.panoptic_fusion_head, 'instance_postprocess'
        else:
            owner, method = model.bbox_head, 'predict_by_feat'
        stack.enter_context(_listening(owner, method, record.set_outputs))
        yield


@contextlib.contextmanager
def _listening(owner: nn.Module, method: str, listener: Callable[[tuple[Any, ...], Any], None]) -> Iterator[None]:
    """Call ``listener`` with the positional arguments and the result of each call of a method."""
    original = getattr(owner, method)

    @functools.wraps(original)
    def call(*args: Any, **options: Any) -> Any:
        outputs = original(*args, **options)
        listener(args, outputs)
        return outputs

    setattr(owner, method, call)  # hides the method of the class
    try:
        yield
    finally:
        delattr(owner, method)


def _cross_attentions(model: nn.Module) -> list[nn.Module]:
    """Return the cross-attention of each layer of the decoder; an empty list if there is none that can be recorded."""
    decoder = getattr(model, 'decoder', None) or getattr(getattr(model, 'panoptic_head', None), 'transformer_decoder',
                                                         None)
    found = [getattr(layer, 'cross_attn', None) for layer in getattr(decoder, 'layers', ())]
    readable = all(hasattr(each, 'sampling_offsets') or hasattr(each, 'forward_attn') or
                   isinstance(getattr(each, 'attn', None), nn.MultiheadAttention) for each in found)
    return [each for each in found if each is not None] if readable else []


def _query_of_boxes(logits: Tensor, boxes: Tensor, found: Any, image_hw: tuple[int, int]) -> Tensor:
    """Return the query of each predicted box, of shape ``(N,)``.

    Args:
        logits: Of all queries, of shape ``(Q, classes)``.
        boxes: Center and size of all queries, in fractions of the image, of shape ``(Q, 4)``.
        found: The predicted instances, a selection of the queries in pixels.
        image_hw: Height and width of the image without padding.
    """
    size = boxes.new_tensor([image_hw[1], image_hw[0]])
    centers, sides = boxes.split(2, 1)
    corners = torch.cat([((centers + sign * sides / 2) * size).clamp(min=0).minimum(size) for sign in (-1, 1)], 1)
    predicted = getattr(found.bboxes, 'tensor', found.bboxes)
    # boxes that are limited to the image may be the same: of these, the one with the most similar score
    scores = logits.sigmoid()[:, found.labels.clamp(max=logits.shape[1] - 1)].T
    difference = (scores - found.scores[:, None]).abs()
    return (torch.cdist(predicted.float(), corners.float(), p=1) + 1e-3 * difference).argmin(1)


def _query_of_masks(logits: Tensor, masks: Tensor, found: Any) -> Tensor:
    """Return the query of each instance of Mask2Former, whose score is that of the class times that of the mask, (N,).

    Args:
        logits: Shape ``(Q, classes + 1)``.
        masks: Logits of shape ``(Q, H, W)``.
        found: The predicted instances.
    """
    inside = masks > 0
    quality = (masks.sigmoid() * inside).flatten(1).sum(1) / (inside.flatten(1).sum(1) + 1e-6)
    scores = logits.softmax(1)[:, :-1] * quality[:, None]
    return (scores[:, found.labels] - found.scores).abs().argmin(0)
