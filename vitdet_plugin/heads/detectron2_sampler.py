"""Random samples of the anchors of an image, counted as in detectron2."""

from __future__ import annotations

from typing import Any

from mmdet.models.task_modules.assigners import AssignResult
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import TASK_UTILS
from mmengine.structures import InstanceData
from torch import Tensor

from vitdet_plugin.heads.deferred_sampler import DeferredRandomSampler


@TASK_UTILS.register_module()
class Detectron2Sampler(DeferredRandomSampler):
    """A random sampler for a region proposal network whose losses are divided by ``num`` for every image.

    mmdet divides by the number of samples instead, and counts an image without positive samples as one sample more.
    Box heads do not read this number.

    Args:
        num: Samples of an image.
        pos_fraction: Largest part of positive samples.
        **kwargs: See ``DeferredRandomSampler``.
    """

    def sample(self, assign_result: AssignResult, pred_instances: InstanceData, gt_instances: InstanceData,
               **kwargs: Any) -> SamplingResult:
        """Draw the samples of an image; ``avg_factor`` of the result is ``num``."""
        result = super().sample(assign_result, pred_instances, gt_instances, **kwargs)
        result.avg_factor = self.num
        return result

    def avg_factor(self, positives: Tensor, negatives: Tensor) -> float | Tensor:
        """Return ``num`` times the number of images."""
        return self.num * len(positives)
