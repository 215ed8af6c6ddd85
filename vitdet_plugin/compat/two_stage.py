"""mmdet's two-stage detectors do not copy images' annotations, with all masks, in each training step."""

import copy
import functools
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from vitdet_plugin.compat.patching import Patch, with_globals

_PATCH = Patch('mmdet.models.detectors.TwoStageDetector', 'loss', upstream='mmdet 3.3 to 3.5',
               why='copies all masks in each step to replace the classes')


def install() -> None:
    """Let the region proposal network have samples that share everything but the list of fields."""
    def wrap(loss: Callable) -> Callable:
        return functools.wraps(loss)(with_globals(loss, copy=SimpleNamespace(deepcopy=shared_samples)))

    _PATCH.install(wrap)


def shared_samples(samples: Sequence[Any]) -> list[Any]:
    """Return copies of data samples with the same tensors and masks.

    Fields of a copy and of its ``gt_instances`` can be replaced without changing the original.
    """
    copies = []
    for sample in samples:
        shared = shared_element(sample)
        shared.gt_instances = shared_element(sample.gt_instances)
        copies.append(shared)
    return copies


def shared_element(element: Any) -> Any:
    """Return a copy of mmengine's ``BaseDataElement`` with the same values."""
    shared = copy.copy(element)
    for name in ('_data_fields', '_metainfo_fields'):
        shared.__dict__[name] = set(element.__dict__[name])
    return shared
