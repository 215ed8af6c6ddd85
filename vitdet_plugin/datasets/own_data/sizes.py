"""Input size, anchors, batch and length of a training from the images, the objects and the machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitdet_plugin.datasets.formats.base import SourceImage
from vitdet_plugin.datasets.own_data.machine import Machine
from vitdet_plugin.datasets.own_data.offers import OfferedModel

SIDE_STEP = 32  # sizes are multiples of it: the pyramid's coarsest map, and two patches of 16 pixels
_SMALL = 16.0  # pixels; smaller objects cover less than one patch
_TINY = 10.0  # pixels; objects that remain smaller call for tiles
_MOST_ENLARGED = 2.0
_LEAST_JITTER = 0.7  # images are made smaller and larger in training
_RATIOS = (0.5, 1.0, 2.0)
_LONGEST_RATIO = 3.0
_RESERVED = 2 * 2**30  # bytes of memory for the weights and their optimizer, the process and its workers
_EPOCHS = 30
_LONGEST_ON_GPU = 10  # times the longest training on a CPU


@dataclass(frozen=True)
class InputSize:
    """How images are scaled, and what the model needs for objects of that size.

    Attributes:
        image_size: Pixels of the longer side.
        fine: Whether a map of stride 4 is added.
        scales: Sides of the anchors relative to the strides; empty for models without fixed anchors.
        ratios: Height / width of the anchors.
        reason: One phrase.
        advice: What to do about objects that remain too small; usually empty.
    """

    image_size: int
    fine: bool
    scales: tuple[float, ...]
    ratios: tuple[float, ...]
    reason: str
    advice: str = ''


def choose_input(images: Sequence[SourceImage], model: OfferedModel, machine: Machine, given: int | None = None
                 ) -> InputSize:
    """Choose the input size, the maps and the anchors.

    Args:
        images: Images to train on.
        model: Starting point.
        machine: Where it is trained.
        given: Input size that the user states.
    """
    usual, largest = model.image_size[machine.has_gpu], model.largest[machine.has_gpu]
    longest = float(np.median([max(image.width, image.height) for image in images]))
    if model.kind == 'classifier':
        # a quarter of the usual size is a multiple of the patches; small images are hardly enlarged, to save time
        shorter, step = float(np.median([min(image.width, image.height) for image in images])), usual // 4
        size = given or min(usual, max(usual // 2, math.ceil(shorter / step) * step))
        return InputSize(size, False, (), (), f'images have {shorter:.0f} pixels (median of the shorter side)')
    boxes = np.array([(box[2] - box[0], box[3] - box[1], max(image.width, image.height)) for image in images
                      for box in (each.box for each in image.objects if not each.is_crowd)], float).reshape(-1, 3)
    if not len(boxes):
        size = given or min(usual, _whole(_MOST_ENLARGED * longest))
        return InputSize(size, False, (), (), 'no objects to choose it by')
    relative = np.sqrt(boxes[:, 0] * boxes[:, 1]) / boxes[:, 2]
    small = float(np.quantile(relative, 0.1))
    size = given or _whole(min(max(usual, _SMALL / small), largest, max(_MOST_ENLARGED * longest, usual / 2)))
    sides = relative * size
    low, middle = float(np.quantile(sides, 0.1)), float(np.median(sides))
    reason = (f'images have {longest:.0f} pixels (median of the longer side), objects then {middle:.0f} '
              f'(median; 10 % are below {low:.0f})')
    fine = model.has_fine and low < _SMALL
    advice = ''
    if low < _TINY and longest > size:  # otherwise tiles would not show more of the objects
        advice = (f'10 % of the objects are smaller than {low:.0f} pixels at this size: --tile {largest} cuts the '
                  'images into tiles in their own resolution')
    strides = (model.strides[0] // 2, *model.strides) if fine else model.strides
    scales, ratios = choose_anchors(boxes[:, :2] * (size / boxes[:, 2:]), strides) if strides else ((), ())
    return InputSize(size, fine, scales, ratios, reason, advice)


def choose_anchors(sizes: np.ndarray, strides: Sequence[int]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Choose scales and ratios of anchors that cover 90 % of the objects.

    Args:
        sizes: (N, 2) widths and heights of the objects in pixels of the input.
        strides: Of the maps, each twice the one before.

    Returns:
        Sides of the anchors relative to the strides, and their ratios of height to width.
    """
    sides = np.sqrt(sizes.prod(1)).clip(1)
    low, high = np.quantile(sides, (0.05, 0.95))
    first = float(np.clip(_LEAST_JITTER * low / strides[0], 2.0, 6.0))
    # from one map to the next the side doubles, so the scales divide a factor of two; the last one extends the range
    scales = [first, first * math.sqrt(2)]
    while scales[-1] * strides[-1] * 1.3 < high and len(scales) < 4:
        scales.append(scales[-1] * math.sqrt(2))
    shapes = np.quantile(sizes[:, 1] / sizes[:, 0].clip(1e-3), (0.05, 0.95))
    ratios = list(_RATIOS)
    if shapes[0] < 1 / _LONGEST_RATIO:
        ratios.insert(0, 0.25)
    if shapes[1] > _LONGEST_RATIO:
        ratios.append(4.0)
    return tuple(round(each, 1) for each in scales), tuple(ratios)


def choose_batch(model: OfferedModel, image_size: int, machine: Machine, images: int) -> tuple[int, str]:
    """Return the number of images in a step, and the reason."""
    needed = model.image_memory * image_size**2
    fitting = max(1, int((machine.memory - _RESERVED) // needed))
    most = 4 * model.batch if machine.has_gpu else model.batch
    batch = max(1, min(fitting, most, images))
    batch = 2 ** int(math.log2(batch))
    return batch, f'for {machine.name}'


def choose_length(model: OfferedModel, images: int, batch: int, machine: Machine) -> tuple[int, str]:
    """Return the number of steps, and the reason."""
    fewest, most = model.images_seen
    if machine.has_gpu:
        most *= _LONGEST_ON_GPU
    seen = min(max(_EPOCHS * images, fewest), most)
    steps = max(1, math.ceil(seen / batch))
    limit = (' (at most this on a CPU)' if not machine.has_gpu and seen == most else '')
    return steps, f'{batch * steps / images:.0f} times the {images} images{limit}'


def choose_workers(machine: Machine) -> int:
    """Return the number of processes that load images."""
    return max(1, min(machine.cores - 1, 8 if machine.has_gpu else 2))


def _whole(side: float) -> int:
    return max(SIDE_STEP, math.ceil(side / SIDE_STEP) * SIDE_STEP)
