"""Random samples whose numbers stay on the GPU until they are needed on the host, for all images at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.models.task_modules.samplers import RandomSampler, SamplingResult
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import BaseBoxes
from mmengine.structures import InstanceData
from torch import Tensor

_RESOLVED = ('pos_inds', 'neg_inds', 'num_pos', 'num_neg', 'avg_factor', 'pos_priors', 'neg_priors', 'pos_is_gt',
             'pos_assigned_gt_inds', 'pos_gt_labels', 'pos_gt_bboxes', 'host_boxes', 'host_gt_inds')


def draw_samples(gt_inds: Tensor, num: int, num_positive: int,
                 neg_pos_ub: float = -1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw positive and negative boxes of several images without replacement, each with the same probability.

    Args:
        gt_inds: (B, m), above 0 for positive and 0 for negative boxes.
        num: Samples of an image.
        num_positive: Largest number of positive samples.
        neg_pos_ub: Largest number of negative samples for each positive one; no limit if negative.

    Returns:
        Indices of the positive (B, P) and negative (B, Q) samples, ascending, and the numbers of them that are used (B,)
        each. P and Q depend on the arguments alone; the indices that are not used are m.
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
        drawn = draw_samples(assign_result.gt_inds[None], self.num, self.num_expected_positive, self.neg_pos_ub)
        return DeferredSamples(*(part[0] for part in drawn), priors, objects, assign_result, added)

    def avg_factor(self, positives: Tensor, negatives: Tensor) -> float | Tensor:
        """Return the number by which losses of all images are divided.

        Args:
            positives, negatives: Numbers of samples of each image (B,).
        """
        return positives.clamp(min=1).sum() + negatives.clamp(min=1).sum()


class DeferredSamples(SamplingResult):
    """mmdet's ``SamplingResult`` of an image whose attributes are computed when one of them is read.

    :func:`resolve` does this for several images with one copy to the host. Further attributes:

    - ``host_boxes``: NumPy array (n, 4), the samples, positive ones first, as ``priors``;
    - ``host_gt_inds``: NumPy array (p,), the object of each positive sample.

    Args:
        positive, negative: Indices (P,) and (Q,) of samples; only the first ones are used.
        positives, negatives: Numbers of those (), on the device.
        boxes: (m, 4), all boxes.
        objects: (n, 4).
        assigned: Result of the assigner for ``boxes``.
        added: Number of objects at the start of ``boxes``.
    """

    def __init__(self, positive: Tensor, negative: Tensor, positives: Tensor, negatives: Tensor, boxes: Tensor,
                 objects: Tensor, assigned: AssignResult, added: int) -> None:
        self.indices = torch.cat([positive, negative])
        self.most_positive = len(positive)
        self.counts = torch.stack([positives, negatives])
        self.boxes, self.objects, self.assigned, self.added = boxes, objects, assigned, added
        self.num_gts, self.avg_factor_with_neg = len(objects), True

    def __getattr__(self, name: str) -> Any:
        # called for attributes that are missing
        if name not in _RESOLVED or 'counts' not in self.__dict__:
            raise AttributeError(name)
        resolve([self])
        return self.__dict__[name]

    def rows(self) -> Tensor:
        """Return the numbers that the host needs, (P + Q, 5): boxes, and index of the object + 1."""
        self.slots = self.indices.clamp(max=len(self.boxes) - 1)
        self.slot_boxes, self.slot_gt_inds = self.boxes[self.slots], self.assigned.gt_inds[self.slots]
        dtype = torch.promote_types(self.boxes.dtype, torch.float32)  # holds numbers up to 2^24 exactly
        return torch.cat([self.slot_boxes.to(dtype), self.slot_gt_inds[:, None].to(dtype)], 1)

    def set_counts(self, positives: int, negatives: int, rows: np.ndarray) -> None:
        """Set all attributes.

        Args:
            positives, negatives: Numbers of samples.
            rows: :meth:`rows` on the host.
        """
        p, start = positives, self.most_positive
        end = start + negatives
        self.host_boxes = np.concatenate([rows[:p, :4], rows[start:end, :4]])
        self.host_gt_inds = rows[:p, 4].astype(np.int64) - 1
        self.pos_inds, self.neg_inds = self.indices[:p], self.indices[start:end]
        self.num_pos, self.num_neg = max(p, 1), max(negatives, 1)
        self.__dict__.setdefault('avg_factor', self.num_pos + self.num_neg)
        self.pos_priors, self.neg_priors = self.slot_boxes[:p], self.slot_boxes[start:end]
        self.pos_is_gt = (self.pos_inds < self.added).to(torch.uint8)
        self.pos_assigned_gt_inds = self.slot_gt_inds[:p] - 1
        self.pos_gt_labels = self.assigned.labels[self.pos_inds]
        self.pos_gt_bboxes = self.objects.reshape(-1, 4)[self.pos_assigned_gt_inds]


def resolve(samples: Sequence[SamplingResult]) -> None:
    """Compute the attributes of the samples of several images; the host waits once.

    Args:
        samples: Results of samplers; others than :class:`DeferredSamples`, and resolved ones, are left as they are.
    """
    waiting = [each for each in samples if isinstance(each, DeferredSamples) and 'pos_inds' not in each.__dict__]
    if not waiting:
        return
    rows = [each.rows() for each in waiting]
    packed = torch.cat([part.to(rows[0].dtype).flatten() for each, kept in zip(waiting, rows)
                        for part in (each.counts, kept)])
    host = packed.detach().cpu().numpy()
    for each, part in zip(waiting, rows):
        positives, negatives = host[:2].astype(int).tolist()
        each.set_counts(positives, negatives, host[2:2 + part.numel()].reshape(part.shape))
        host = host[2 + part.numel():]
