"""What an exported file says about its model, for programs that read it without mmdet."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config

from vitdet_plugin.config.dataset_config import split_datasets
from vitdet_plugin.engine.load_model import LoadedModel
from vitdet_plugin.export.modules import Preprocess, describe_channels
from vitdet_plugin.runtime.model import fallback_steps
from vitdet_plugin.runtime.pipeline import UnknownStep, translate

FORMAT = 2  # of the metadata and the outputs


def file_metadata(loaded: LoadedModel, shape: tuple[int, int], preprocess: Preprocess, *, dynamic: Sequence[str] = (),
                  masks: str | None = None) -> dict[str, str]:
    """Return the metadata of an exported file; values are JSON.

    Args:
        loaded: The model and its config.
        shape: Height and width of the example in pixels; the only size that a file of fixed size takes.
        preprocess: The normalization inside the graph.
        dynamic: What the file leaves open: ``'batch'``, ``'size'``.
        masks: What the output ``masks`` holds: ``'boxes'`` or ``'image'``; None without masks.
    """
    about: dict[str, Any] = dict(
        format=FORMAT, task='classifier' if loaded.is_classifier else 'detector', classes=list(loaded.classes or ()),
        shape=list(shape), dynamic=list(dynamic), divisor=preprocess.divisor,
        input=f'{describe_channels(preprocess.channels)}, 0 to 255')
    mean = preprocess.mean.flatten().expand(preprocess.channels)
    about['padding'] = (mean.flip(0) if preprocess.is_reversed else mean).tolist()  # zero after normalization
    threshold = (getattr(getattr(loaded.model, 'roi_head', None), 'test_cfg', None) or {}).get('mask_thr_binary')
    if threshold is not None:
        about['mask_threshold'] = threshold
    if masks is not None:
        about['masks'] = masks
    pipeline = test_pipeline(loaded.cfg)
    if pipeline:
        about['pipeline'] = pipeline
    about['preprocess'] = preprocess_steps(pipeline, shape, loaded.is_classifier)
    return {key: json.dumps(value, default=_name) for key, value in about.items()}


def test_pipeline(cfg: Config) -> list[dict[str, Any]]:
    """Return the test pipeline of a config; empty if it has none."""
    for _, dataset in split_datasets(cfg, 'test'):
        return [dict(step) for step in dataset.get('pipeline') or ()]
    return []


def preprocess_steps(pipeline: Sequence[dict[str, Any]], shape: tuple[int, int], is_classifier: bool
                     ) -> list[dict[str, Any]]:
    """Return the steps that prepare an image, see :mod:`vitdet_plugin.runtime.preprocess`.

    A pipeline that cannot be expressed is a warning: the graph can be used without it, by programs that prepare images
    themselves. The steps then resize images to ``shape``.

    Args:
        pipeline: The test pipeline.
        shape: Height and width of the input.
        is_classifier: Whether the image fills the input; otherwise it fits into it with its aspect ratio kept.
    """
    try:
        return translate(pipeline)
    except UnknownStep as error:
        how = 'resized' if is_classifier else 'resized with the aspect ratio kept'
        print(f'warning: the exported file cannot describe {error} of the test pipeline: "vitdet predict" on the file '
              f'uses images {how} to {shape[0]} x {shape[1]}', file=sys.stderr)
        return fallback_steps(shape, is_classifier)


def _name(value: Any) -> str:
    return getattr(value, '__name__', str(value))
