"""Random samples whose numbers stay on the GPU until they are needed on the host, for all images at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.models.task_modules.samplers import RandomSampler, SamplingResult
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import BaseBoxes
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

_RESOLVED = ('pos_inds', 'neg_inds', 'num_pos', 'num_neg', 'avg_factor', 'pos_priors', 'neg_priors',
             'pos_assigned_gt_inds', 'pos_gt_labels', 'pos_gt_bboxes', 'host_boxes', 'host_gt_inds', 'host_is_object')

_ALL = 2 ** 31  # more than there are boxes


def draw_samples(gt_inds: Tensor, num: int, num_positive: int,
                 neg_pos_ub: float = -1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw positive and negative boxes of several images without replacement, each with the same probability.

    Args:
        gt_inds: (B, m), above 0 for positive and 0 for negative boxes.
        num: Samples of an image.
        num_positive: Largest number of positive samples.
        neg_pos_ub: Largest number of negative samples for each positive one; no limit if negative.

    Returns:
        Indices of the positive (B, P) and negative (B, Q) samples, ascending, and the numbers (B,) of them that are
        used. P and Q depend on the arguments alone; the indices that are not used are m.
    """
    keys = torch.rand(gt_inds.shape, dtype=torch.float64, device=gt_inds.device)  # in float32 many would be equal
    positive, positives = _draw(keys, gt_inds > 0, num_positive)
    allowed = num - positives
    if neg_pos_ub >= 0:
        allowed = torch.minimum(allowed, (positives.clamp(min=1) * neg_pos_ub).long())
    negative, negatives = _draw(keys, gt_inds == 0, num, allowed)
    return positive, negative, positives, negatives


def _draw(keys: Tensor, candidates: Tensor, most: int, allowed: Tensor | None = None) -> tuple[Tensor, Tensor]:
    size = keys.shape[1]
    most = min(most, size)
    count = candidates.sum(1).clamp(max=most)
    if allowed is not None:
        count = torch.minimum(count, allowed)
    chosen = keys.masked_fill(~candidates, 2.0).topk(most, largest=False).indices
    unused = torch.arange(most, device=keys.device) >= count[:, None]
    return chosen.masked_fill(unused, size).sort(1).values, count


@TASK_UTILS.register_module()
class DeferredRandomSampler(RandomSampler):
    """mmdet's ``RandomSampler`` without its waits for the GPU, six for each image.

    The samples have the same distribution; the random numbers come from the generator of the device.

    Args:
        num: Samples of an image.
        pos_fraction: Largest part of positive samples.
        neg_pos_ub: Largest number of negative samples for each positive one; no limit if negative.
        add_gt_as_proposals: Whether the objects are boxes too, before all others.
    """

    @property
    def num_expected_positive(self) -> int:
        """Largest number of positive samples of an image."""
        return int(self.num * self.pos_fraction)

    def sample(self, assign_result: AssignResult, pred_instances: InstanceData, gt_instances: InstanceData,
               **kwargs: Any) -> SamplingResult:
        """Draw the samples of an image.

        Args:
            assign_result: Result of the assigner; gets the objects if they are boxes too.
            pred_instances: ``priors`` (m, 4).
            gt_instances: ``bboxes`` (n, 4) and ``labels`` (n,).
            **kwargs: Not used.
        """
        priors, objects = pred_instances.priors, gt_instances.bboxes
        if isinstance(priors, BaseBoxes) or isinstance(objects, BaseBoxes):
            return super().sample(assign_result, pred_instances, gt_instances, **kwargs)
        added = len(objects) if self.add_gt_as_proposals else 0
        if added:
            priors = torch.cat([objects.to(priors.dtype), priors.reshape(-1, 4)])
            assign_result.add_gt_(gt_instances.labels)
        return DeferredSamples(self, priors, objects, assign_result, added)

    def avg_factor(self, positives: Tensor, negatives: Tensor) -> float | Tensor:
        """Return the number by which losses of all images are divided.

        Args:
            positives, negatives: Numbers of samples of each image (B,).
        """
        return positives.clamp(min=1).sum() + negatives.clamp(min=1).sum()


@TASK_UTILS.register_module()
class DeferredPseudoSampler(DeferredRandomSampler):
    """mmdet's ``PseudoSampler`` without its waits for the GPU: every box that is not ignored is a sample.

    Args:
        **kwargs: Not used, as in ``PseudoSampler``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(num=_ALL, pos_fraction=1.0, add_gt_as_proposals=False)

    def sample(self, assign_result: AssignResult, pred_instances: InstanceData, gt_instances: InstanceData,
               **kwargs: Any) -> SamplingResult:
        """Return all boxes; ``avg_factor`` of the result is the number of positive ones."""
        result = super().sample(assign_result, pred_instances, gt_instances, **kwargs)
        result.avg_factor_with_neg = False
        return result


class DeferredSamples(SamplingResult):
    """mmdet's ``SamplingResult`` of an image; the samples are drawn when one of its attributes is read.

    :func:`resolve` does this for several images with one copy to the host. Further attributes:

    - ``host_boxes``: NumPy array (n, 4), the samples, positive ones first, as ``priors``;
    - ``host_gt_inds``: NumPy array (p,), the object of each positive sample;
    - ``host_is_object``: NumPy array (p,) bool, whether it is an object itself, as ``pos_is_gt``.

    Args:
        sampler: Numbers of samples.
        boxes: (m, 4), all boxes.
        objects: (n, 4).
        assigned: Result of the assigner for ``boxes``.
        added: Number of objects at the start of ``boxes``.
    """

    def __init__(self, sampler: DeferredRandomSampler, boxes: Tensor, objects: Tensor, assigned: AssignResult,
                 added: int) -> None:
        self.limits = (sampler.num, sampler.num_expected_positive, sampler.neg_pos_ub)
        self.boxes, self.objects, self.assigned, self.added = boxes, objects.reshape(-1, 4), assigned, added
        self.num_gts, self.avg_factor_with_neg = len(objects), True

    def __getattr__(self, name: str) -> Any:
        # called for attributes that are missing
        if name not in _RESOLVED or 'limits' not in self.__dict__:
            raise AttributeError(name)
        resolve([self])
        return self.__dict__[name]

    @property
    def is_resolved(self) -> bool:
        """Whether the samples have been drawn."""
        return 'pos_inds' in self.__dict__

    @property
    def pos_is_gt(self) -> Tensor:
        """1 for the positive samples that are objects themselves, (p,) uint8."""
        return (self.pos_inds < self.added).to(torch.uint8)

    def set_samples(self, slots: Slots, positives: int, negatives: int, host: np.ndarray) -> None:
        """Set all attributes.

        Args:
            slots: Samples of the image.
            positives, negatives: Numbers of those that are used.
            host: The columns of ``slots.boxes``, ``slots.gt_inds`` and ``slots.indices``, (P + Q, 6).
        """
        p, start = positives, slots.most_positive
        end = start + negatives
        self.host_boxes = np.concatenate([host[:p, :4], host[start:end, :4]])
        self.host_gt_inds = host[:p, 4].astype(np.int64)
        self.host_is_object = host[:p, 5] < self.added
        self.pos_inds, self.neg_inds = slots.indices[:p], slots.indices[start:end]
        self.num_pos, self.num_neg = max(p, 1), max(negatives, 1)
        factor = self.num_pos + self.num_neg if self.avg_factor_with_neg else self.num_pos
        self.__dict__.setdefault('avg_factor', factor)
        self.pos_priors, self.neg_priors = slots.boxes[:p], slots.boxes[start:end]
        self.pos_assigned_gt_inds, self.pos_gt_labels = slots.gt_inds[:p], slots.labels[:p]
        self.pos_gt_bboxes = slots.objects[:p]


class Slots(NamedTuple):
    """Positive and then negative samples of an image or of B images, with slots that are not used.

    Attributes:
        most_positive: Number of positive slots, P.
        indices: (B, P + Q), their boxes.
        boxes: (B, P + Q, 4).
        gt_inds: (B, P + Q), index of the object, below 0 for negative samples.
        labels: (B, P + Q), its class.
        objects: (B, P + Q, 4), its box.
    """

    most_positive: int
    indices: Tensor
    boxes: Tensor
    gt_inds: Tensor
    labels: Tensor
    objects: Tensor

    def of_image(self, i: int) -> Slots:
        """Return those of one image."""
        return Slots(self.most_positive, *(each[i] for each in self[1:]))


def resolve(samples: Sequence[SamplingResult]) -> None:
    """Draw the samples of several images; the host waits once.

    Args:
        samples: Results of one sampler; others than :class:`DeferredSamples`, and resolved ones, are left as they are.
    """
    waiting = [each for each in samples if isinstance(each, DeferredSamples) and not each.is_resolved]
    if not waiting:
        return
    slots, positives, negatives = _draw_slots(waiting)
    dtype = torch.promote_types(slots.boxes.dtype, torch.float32)  # holds numbers up to 2^24 exactly
    numbers = torch.stack([positives, negatives], 1)
    packed = torch.cat([slots.boxes.flatten(1), slots.gt_inds, slots.indices, numbers], 1)
    host, size = packed.to(dtype).cpu().numpy(), slots.indices.shape[1]
    for i, (each, row) in enumerate(zip(waiting, host, strict=True)):
        columns = np.concatenate([row[:4 * size].reshape(-1, 4), row[4 * size:-2].reshape(2, -1).T], 1)
        each.set_samples(slots.of_image(i), int(row[-2]), int(row[-1]), columns)


def _draw_slots(waiting: list[DeferredSamples]) -> tuple[Slots, Tensor, Tensor]:
    """Slots of B images and the numbers (B,) of positive and negative samples in them."""
    gt_inds = pad_sequence([each.assigned.gt_inds for each in waiting], batch_first=True, padding_value=-1)
    labels = pad_sequence([each.assigned.labels for each in waiting], batch_first=True)
    boxes = pad_sequence([each.boxes.detach() for each in waiting], batch_first=True)
    objects = pad_sequence([each.objects for each in waiting], batch_first=True)
    positive, negative, positives, negatives = draw_samples(gt_inds, *waiting[0].limits)
    indices = torch.cat([positive, negative], 1)
    within = indices.clamp(max=max(gt_inds.shape[1] - 1, 0))
    matched = gt_inds.gather(1, within) - 1
    found = torch.zeros(*matched.shape, 4, dtype=objects.dtype, device=objects.device)
    if objects.shape[1]:
        found = take(objects, matched.clamp(min=0))
    slots = Slots(positive.shape[1], indices, take(boxes, within), matched, labels.gather(1, within), found)
    return slots, positives, negatives


def take(values: Tensor, indices: Tensor) -> Tensor:
    """Return (B, k, C) from ``values`` (B, n, C) and ``indices`` (B, k)."""
    return values.gather(1, indices[..., None].expand(-1, -1, values.shape[-1]))
