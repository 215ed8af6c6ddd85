"""Models that ``vitdet init`` offers as starting points, and whether their pre-trained weights can be had."""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from vitdet_plugin.checkpoints.fetching import download_url, present_file
from vitdet_plugin.checkpoints.published import explain_unknown, find_published
from vitdet_plugin.compat.remote_files import is_remote
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.text import suggest

TASKS = ('detect', 'segment', 'classify')
_WAIT = 5.0  # seconds for an answer of the server


@dataclass(frozen=True)
class OfferedModel:
    """A starting point.

    Attributes:
        name: Name for ``--model``.
        task: One of :data:`TASKS`.
        template: Config in ``configs/_base_/own_data``; with a finer feature map in ``<template>_fine``, if any.
        weights: Name of the published weights that the template starts from; None for those in this package, or none.
        summary: One phrase for ``--help``.
        kind: ``two-stage``, ``yolov5`` or ``classifier``: which parts the template has.
        image_size: Usual size in pixels on a CPU and on a GPU.
        largest: Largest size in pixels that is chosen on a CPU and on a GPU.
        images_seen: Smallest and largest number of images of a training on a CPU.
        batch: Usual images in a step.
        smallest_anchor: Side in pixels of the smallest anchor that the finest map offers; 0 without fixed anchors.
        image_memory: Memory of a training per image and pixel, in bytes.
    """

    name: str
    task: str
    template: str
    weights: str | None
    summary: str
    kind: str
    image_size: tuple[int, int]
    largest: tuple[int, int]
    images_seen: tuple[int, int]
    batch: int
    strides: tuple[int, ...] = ()
    has_fine: bool = False
    image_memory: int = 5000

    @property
    def tiny(self) -> str:
        """Name of the model to use without the weights."""
        return f'{self.name}-tiny'


MODELS = {each.name: each for each in (
    OfferedModel('faster-rcnn', 'detect', 'faster-rcnn_dinov2-s', 'dinov2_s14',
                 'boxes: ViTDet on DINOv2-S, Faster R-CNN', 'two-stage', (448, 640), (832, 1280), (1000, 6000), 4,
                 (8, 16, 32, 64), True),
    OfferedModel('mask-rcnn', 'segment', 'mask-rcnn_dinov2-s', 'dinov2_s14',
                 'boxes and masks: ViTDet on DINOv2-S, Mask R-CNN', 'two-stage', (448, 640), (832, 1280), (1000, 6000),
                 4, (8, 16, 32, 64), True),
    OfferedModel('yolov5', 'detect', 'yolov5_dinov2-s', 'dinov2_s14',
                 "boxes: YOLOv5's one-stage recipe on DINOv2-S", 'yolov5', (448, 640), (832, 1280), (2000, 10000), 8),
    OfferedModel('classifier', 'classify', 'classifier_dinov2-s', 'dinov2_s14',
                 'classes of images: DINOv2-S', 'classifier', (224, 224), (224, 224), (2000, 12000), 16),
    OfferedModel('faster-rcnn-tiny', 'detect', 'faster-rcnn_vitdet-tiny', None,
                 'boxes: a small ViTDet for CPUs, without downloads', 'two-stage', (256, 256), (512, 512),
                 (4000, 12000), 8, (4, 8, 16, 32, 64)),
    OfferedModel('mask-rcnn-tiny', 'segment', 'mask-rcnn_vitdet-tiny', None,
                 'boxes and masks: a small ViTDet for CPUs, without downloads', 'two-stage', (256, 256), (512, 512),
                 (4000, 12000), 8, (4, 8, 16, 32, 64)),
    OfferedModel('yolov5-tiny', 'detect', 'yolov5_convnext-mini', None,
                 'boxes: YOLOv5 on a small ConvNeXt, from scratch', 'yolov5', (320, 320), (512, 512), (8000, 24000), 8,
                 image_memory=2000),
    OfferedModel('classifier-tiny', 'classify', 'classifier_convnext-mini', None,
                 'classes of images: a small ConvNeXt, from scratch', 'classifier', (128, 128), (128, 128),
                 (8000, 48000), 16, image_memory=2000))}
DEFAULTS = dict(detect='faster-rcnn', segment='mask-rcnn', classify='classifier')


def find_model(name: str, task: str) -> OfferedModel:
    """Return the model of a name; ``tiny`` stands for the small one of the task.

    Raises:
        UserError: There is no such model, or it is for another task.
    """
    name = f'{DEFAULTS[task]}-tiny' if name == 'tiny' else name
    if name not in MODELS:
        raise UserError(f'--model {name}: not one of {", ".join(MODELS)}{suggest(name, MODELS)}')
    model = MODELS[name]
    if model.task != task and not (model.task == 'detect' and task == 'segment'):
        fitting = ', '.join(each.name for each in MODELS.values() if each.task == task)
        raise UserError(f'--model {name} is for the task {model.task}, and the task here is {task}; choose one of '
                        f'{fitting}, or another --task')
    return model


def choose_model(task: str, name: str | None, weights: str | None) -> tuple[OfferedModel, str | None, str]:
    """Choose the model and the weights that it starts from.

    Args:
        task: One of :data:`TASKS`.
        name: Name of a model; by default the first of the task whose weights can be had.
        weights: A file, URL, or name of published weights in place of the template's.

    Returns:
        Model; its weights, None for those of the template; the reason, one phrase.

    Raises:
        UserError: An unknown model, one for another task, or weights that do not exist.
    """
    model = find_model(name or DEFAULTS[task], task)
    if weights:
        if find_published(weights) is None and not is_remote(weights):
            path = Path(weights).expanduser()
            if not path.is_file():
                raise UserError(f'--weights {weights}: no such file{explain_unknown(weights)}')
            weights = str(path.absolute())
        return model, weights, f'{model.summary}; the backbone starts from {weights}'
    if model.weights is None:
        return model, None, model.summary
    found, where = locate_weights(model.weights)
    if found:
        return model, None, f'{model.summary}; weights {model.weights}: {where}'
    tiny = MODELS[model.tiny]
    line = (f'the weights {model.weights} of {model.name} cannot be had ({where}); "vitdet weights get '
            f'{model.weights}" downloads them, --weights FILE takes a file')
    if name:
        return model, None, f'{model.summary}. Training needs its weights: {line}'
    return tiny, None, f'{tiny.summary}, because {line}'


def locate_weights(name: str) -> tuple[bool, str]:
    """Return whether published weights are on this machine or their server answers, and where or why not."""
    path = present_file(name)
    if path is not None:
        return True, str(path)
    entry = find_published(name)
    if entry is None or entry.gated:
        return False, 'not on this machine'
    url = download_url(entry)
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method='HEAD'), timeout=_WAIT):
            size = f' ({entry.size / 2**20:.0f} MB)' if entry.size else ''
            return True, f'downloaded{size} once, when training starts, from {url}'
    except (OSError, ValueError) as error:
        reason = getattr(error, 'reason', None) or error
        return False, f'not on this machine, and {url} does not answer: {reason}'
