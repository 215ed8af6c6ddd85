"""Check the sizes that the transforms of a pipeline state: with 0 or less they fail at an image, or return nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from vitdet_plugin.config.dataset_config import PIPELINES, SPLITS, pipeline_steps
from vitdet_plugin.errors import UserError

_SIZES = ('size', 'crop_size', 'img_size', 'image_size', 'img_scale', 'pad_size', 'size_divisor', 'scale_factor')
_OF_RESIZE = ('scale', 'scales', 'ratio_range')  # 0 means something else in other transforms, such as a mosaic


def check_pipeline_sizes(cfg: Config) -> None:
    """Check every pipeline of a config, those of its datasets included.

    Raises:
        UserError: Names the first size that is not above 0.
    """
    content: Any = cfg._cfg_dict
    pipelines = [(key, content[key]) for key in content if key.endswith('pipeline')]
    for key, value in pipelines:
        _check(pipeline_steps(value, key), cfg)
    for split in SPLITS:
        loader = content.get(f'{split}_dataloader')
        if isinstance(loader, dict):
            _check(_inside(loader.get('dataset'), f'{split}_dataloader.dataset'), cfg)


def _check(transforms: Iterator[tuple[str, dict]], cfg: Config) -> None:
    for key, transform in transforms:
        kind = str(transform.get('type')).rpartition('.')[2]
        names = (*_SIZES, *(_OF_RESIZE if 'Resize' in kind or 'Crop' in kind or 'Jitter' in kind else ()))
        for name in names:
            if any(not number > 0 for number in _numbers(transform.get(name))):
                raise UserError(f'{cfg.filename or "config"}: {key}.{name} of {kind} is {transform[name]!r}; set '
                                'numbers above 0')


def _numbers(value: Any) -> Iterator[float]:
    """Yield the numbers of a value or of nested lists, without switches."""
    if isinstance(value, (list, tuple)):
        for each in value:
            yield from _numbers(each)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value


def _inside(node: Any, key: str) -> Iterator[tuple[str, dict]]:
    """Yield the transforms of all pipelines in a dataset and in the datasets that it wraps."""
    if isinstance(node, (list, tuple)):
        for index, each in enumerate(node):
            yield from _inside(each, f'{key}[{index}]')
    elif isinstance(node, dict):
        for name, value in node.items():
            yield from (pipeline_steps if name in PIPELINES else _inside)(value, f'{key}.{name}')
