"""mmdet's random sampler draws on the device of what it samples."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vitdet_plugin.compat.patching import Patch

_PATCH = Patch('mmdet.models.task_modules.samplers.random_sampler.RandomSampler', 'random_choice',
               upstream='mmdet 3.3 to 3.5',
               why='permutes all anchors of each image on the CPU, a twentieth of a training step on a GPU')


def install() -> None:
    """Replace the choice among tensors on a GPU; the one on the CPU stays, with its random numbers."""
    def wrap(original: Callable) -> Callable:
        @functools.wraps(original)
        def random_choice(self: Any, gallery: Any, num: int) -> Any:
            if not (isinstance(gallery, Tensor) and gallery.is_cuda):
                return original(self, gallery, num)
            return gallery[torch.randperm(gallery.numel(), device=gallery.device)[:num]]

        return random_choice

    _PATCH.install(wrap)
