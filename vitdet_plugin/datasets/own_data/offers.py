"""Models that ``vitdet init`` offers as starting points. Nothing heavy is imported, for ``--help``."""

from __future__ import annotations

from dataclasses import dataclass

TASKS = ('detect', 'segment', 'classify')


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
        strides: Of the maps with anchors; empty without fixed anchors.
        has_fine: Whether there is a template with a map of half the first stride.
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
