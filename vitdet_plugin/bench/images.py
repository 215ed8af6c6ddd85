"""The images of a benchmark, and test pipelines for another input size."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from vitdet_plugin.bench.runners import Runner
from vitdet_plugin.config.dataset_config import split_datasets
from vitdet_plugin.config.registry import type_name
from vitdet_plugin.engine.image_sources import ImageStream
from vitdet_plugin.engine.load_model import build_dataset
from vitdet_plugin.errors import UserError

_EXAMINED = 50  # images of the test set among which a batch of one shape is searched
_NOISE = (480, 640)


def find_images(runner: Runner, cfg: Config | None, given: str | None, count: int) -> list[Any]:
    """Return images whose inputs have the same shape: of a path, else of the test set, else one of noise.

    Args:
        runner: The model, whose pipeline determines the shapes.
        cfg: Config with the test set.
        given: Path of an image or a folder.
        count: Most images.

    Raises:
        UserError: The path does not exist or holds no image.
    """
    if given is not None:
        sources = [each.content() for each in itertools.islice(ImageStream(given), _EXAMINED)]
    else:
        sources = list(itertools.islice(_test_images(cfg), _EXAMINED)) or [_noise()]
    found: list[Any] = []
    first: Hashable = None
    for source in sources:
        key = runner.key(runner.preprocess(source))
        first = first or key
        if key == first:
            found.append(source)
        if len(found) == count:
            break
    return found


def _test_images(cfg: Config | None) -> Iterator[Path]:
    if cfg is None or cfg.get('test_dataloader') is None:
        return
    try:
        dataset = build_dataset(cfg)
    except UserError:  # the data is not on this machine
        return
    for index in range(len(dataset)):
        path = Path(str(dataset.get_data_info(index).get('img_path')))
        if path.is_file():
            yield path


def _noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*_NOISE, 3), dtype=np.uint8)


def resized(cfg: Config, shape: tuple[int, int]) -> Config:
    """Return a copy of a config whose test pipeline returns images of at most this height and width.

    Raises:
        UserError: The pipeline has no step that determines the size.
    """
    cfg, is_changed = copy.deepcopy(cfg), False
    for _, dataset in split_datasets(cfg, 'test'):
        for step in dataset.get('pipeline') or ():
            is_changed = _resize_step(step, shape) or is_changed
    if not is_changed:
        raise UserError(f'--shape: the test pipeline of {cfg.filename} has no Resize, ResizeEdge, CenterCrop or '
                        'LetterBox; leave the option out')
    return cfg


def _resize_step(step: Any, shape: Sequence[int]) -> bool:
    height, width = shape
    kind = type_name(step)
    if kind == 'Resize':
        step['scale'] = (width, height)
    elif kind == 'ResizeEdge':
        step['scale'] = max(shape)
    elif kind == 'CenterCrop':
        step['crop_size'] = (width, height)
    elif kind == 'LetterBox':
        step['img_size'] = max(shape)
    return kind in ('Resize', 'ResizeEdge', 'CenterCrop', 'LetterBox')
