"""Linear warm-up of the learning rate as in detectron2."""

from __future__ import annotations

import math
from typing import Any

from mmengine.optim import LinearLR
from mmengine.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class WarmupLR(LinearLR):
    """Linear warm-up that reaches the full learning rate at step ``end``, as in detectron2 and mmcv 1.

    The factor at step t is ``start_factor + (1 - start_factor) * (t - begin) / (end - begin)``, at most 1. mmengine's
    ``LinearLR`` reaches the full rate one step earlier.

    Args:
        optimizer: Optimizer or its wrapper.
        start_factor: Factor at step ``begin``.
        begin: First step.
        end: The step with the full rate; need not be an integer.
        last_step: See ``LinearLR``.
        by_epoch: Whether the steps are epochs.
        verbose: See ``LinearLR``.
    """

    def __init__(self, optimizer: Any, start_factor: float = 0.001, begin: int = 0, end: float = 1000,
                 last_step: int = -1, by_epoch: bool = True, verbose: bool = False) -> None:
        self.length = end - begin
        super().__init__(optimizer, start_factor=start_factor, begin=begin, end=math.ceil(end) + 1,
                         last_step=last_step, by_epoch=by_epoch, verbose=verbose)

    def _get_value(self) -> list[float]:
        change = self._factor(self.last_step) / (self._factor(self.last_step - 1) if self.last_step else 1)
        return [group[self.param_name] * change for group in self.optimizer.param_groups]

    def _factor(self, step: int) -> float:
        return self.start_factor + (1 - self.start_factor) * min(1, step / self.length)
