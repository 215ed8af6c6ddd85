"""Anchors of one model, made once for each size of its feature maps."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from vitdet_plugin.compat.patching import Patch

KEPT = 8  # sizes of feature maps whose anchors are kept; 4 MB each for images of 1024 pixels
# named by the module that defines it: another patch, of the class, is named by the package
_GRID = Patch('mmdet.models.task_modules.prior_generators.anchor_generator.AnchorGenerator', 'grid_priors',
              upstream='mmdet 3.3 to 3.5',
              why='makes anchors in every step, and copies base anchors from the host for it (one model)')


def cache_anchors(model: nn.Module) -> None:
    """Let the anchor generators of a detector's heads return the same tensors for the same sizes."""
    for module in model.modules():
        generator = getattr(module, 'prior_generator', None)
        # by name: a module that registers imports this one, and must not import mmdet with it
        if any(cls.__name__ == 'AnchorGenerator' for cls in type(generator).__mro__):
            _GRID.install(_remember, generator)


def _remember(make: Callable[..., list[Tensor]]) -> Callable[..., list[Tensor]]:
    made: OrderedDict[Any, list[Tensor]] = OrderedDict()

    def grid_priors(featmap_sizes: Any, dtype: Any = None, device: Any = 'cuda') -> list[Tensor]:
        key = (tuple(tuple(int(side) for side in size) for size in featmap_sizes), dtype, str(device))
        if key not in made:
            made[key] = make(featmap_sizes, **({} if dtype is None else dict(dtype=dtype)), device=device)
            if len(made) > KEPT:
                made.popitem(last=False)
        return list(made[key])

    return grid_priors
