"""Translate the test pipelines of configs to the steps of :mod:`.preprocess`. Nothing of OpenMMLab is needed for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .images import COLOR_TYPES
from .resize import INTERPOLATIONS

Step = dict[str, Any]
_LEFT_OUT = ('LoadAnnotations', 'LoadPanopticAnnotations', 'PackDetInputs', 'PackInputs')
_BACKENDS = ('cv2', 'pillow')


class UnknownStep(ValueError):
    """A step of a pipeline, or an argument of one, that :func:`translate` cannot express."""


def translate(pipeline: Sequence[Mapping[str, Any]]) -> list[Step]:
    """Return the steps that prepare an image as a test pipeline of mmdet or mmpretrain does.

    Args:
        pipeline: The config of the pipeline.

    Raises:
        UnknownStep: A transform or an argument that cannot be expressed; its text names it.
    """
    steps = [step for config in pipeline for step in _steps_of(config)]
    if not steps or 'load' not in steps[0] or any('load' in step for step in steps[1:]):
        raise UnknownStep('a pipeline that does not start with LoadImageFromFile')
    return steps


def output_size(pipeline: Sequence[Mapping[str, Any]], size: tuple[int, int] | None = None) -> tuple[int, int] | None:
    """Return the height and width of images after a pipeline, or the largest ones if it keeps their ratio.

    Args:
        pipeline: The config of the pipeline. Steps that :func:`translate` does not support count as keeping the size.
        size: Height and width before the pipeline, if known.

    Returns:
        The size; None if it depends on that of the images, which is not known.
    """
    for config in pipeline:
        try:
            steps = _steps_of(config)
        except UnknownStep:
            continue
        for step in steps:
            size = _size_after(step, size)
    return size


def _steps_of(config: Mapping[str, Any]) -> list[Step]:
    options = dict(config)
    kind = options.pop('type', None)
    name = str(getattr(kind, '__name__', kind)).rpartition('.')[2]
    if name in _LEFT_OUT or name == 'RandomFlip' and options.get('prob', None) == 0:
        return []
    if name not in _TRANSLATORS:
        raise UnknownStep(name)
    used, make = _TRANSLATORS[name]
    other = [key for key in options if key not in used]
    if other:
        raise UnknownStep(f'{name}({other[0]}={options[other[0]]!r})')
    made = make(options)
    if made is None:
        raise UnknownStep(f'{name}({", ".join(f"{key}={value!r}" for key, value in options.items())})')
    return made


def _size_after(step: Step, size: tuple[int, int] | None) -> tuple[int, int] | None:
    """Return the height and width after a step; see :mod:`.preprocess` for the steps."""
    for key in ('resize', 'fit'):
        if key in step:
            return step[key][1], step[key][0]
    if 'center_crop' in step:
        return tuple(step['center_crop'])
    if 'letterbox' in step or 'efficientnet_crop' in step:
        side = step.get('letterbox') or step['efficientnet_crop']
        return side, side
    if step.get('edge') == 'long':
        return step['resize_edge'], step['resize_edge']
    if step.get('max_size'):
        return step['resize_shortest'], step['max_size']
    if isinstance(step.get('pad'), list):
        size = tuple(step['pad'])
    if size is None:
        return None
    height, width = size
    if 'scale' in step:
        return round(height * step['scale'][1]), round(width * step['scale'][0])
    if 'resize_edge' in step or 'resize_shortest' in step:
        factor = (step.get('resize_edge') or step['resize_shortest']) / min(size)
        return round(height * factor), round(width * factor)
    if 'pad' in step:
        height, width, divisor = *((max(size),) * 2 if step['pad'] == 'square' else size), step.get('divisor') or 1
        return -(-height // divisor) * divisor, -(-width // divisor) * divisor
    return size


def _load(options: dict) -> list[Step] | None:
    color, backend = options.get('color_type', 'color'), options.get('imdecode_backend') or 'cv2'
    if color not in COLOR_TYPES or backend not in _BACKENDS or (options.get('backend_args') or {}).get(
            'backend', 'local') != 'local':
        return None
    return [dict(load=color, backend=backend, **_flag(options, 'to_float32'))]


def _resize(options: dict, rounds: bool = True) -> list[Step] | None:
    how, scale, factor = _how(options), options.get('scale'), options.get('scale_factor')
    if how is None:
        return None
    if scale:
        size = [scale, scale] if isinstance(scale, int) else list(scale)
        keeps = bool(options.get('keep_ratio', False))
        return [dict(resize=size, keep_ratio=keeps, **({} if rounds else dict(truncate=True)), **how)]
    if not factor or options.get('keep_ratio'):
        return None
    factors = [factor, factor] if isinstance(factor, (int, float)) else list(factor)
    return [dict(scale=factors, **how)]


def _resize_edge(options: dict) -> list[Step] | None:
    how = _how(options)
    return how and [dict(resize_edge=options['scale'], edge=options.get('edge', 'short'), **how)]


def _shortest_edge(options: dict) -> list[Step] | None:
    how, scale = _how(options), options['scale']
    if how is None or options.get('resize_type', 'Resize').rpartition('.')[2] != 'Resize' or options.get('keep_ratio'):
        return None
    side = scale if isinstance(scale, int) else min(scale)
    return [dict(resize_shortest=side, max_size=options.get('max_size'), **how)]


def _fixed_shape(options: dict) -> list[Step] | None:
    how, size = _how(options), [options['width'], options['height']]
    if how is None:
        return None
    if not options.get('keep_ratio'):
        return [dict(resize=size, keep_ratio=False, **how)]
    pad = _pad(dict(size=size, pad_val=options.get('pad_val', 0)))
    return pad and [dict(fit=size, **how), *pad]


def _pad(options: dict) -> list[Step] | None:
    value, mode = options.get('pad_val', 0), options.get('padding_mode', 'constant')
    value = value.get('img', 0) if isinstance(value, Mapping) else value
    if mode not in ('constant', 'edge', 'reflect', 'symmetric'):
        return None
    how = dict(value=value if isinstance(value, (int, float)) else list(value), mode=mode)
    if options.get('size') is not None:
        width, height = options['size']
        return [dict(pad=[height, width], **how)]
    square, divisor = bool(options.get('pad_to_square')), options.get('size_divisor')
    return [dict(pad='square' if square else 'divisor', divisor=divisor or 1, **how)] if square or divisor else None


def _center_crop(options: dict) -> list[Step] | None:
    size = options['crop_size']
    width, height = (size, size) if isinstance(size, int) else size
    steps: list[Step] = []
    if options.get('auto_pad'):
        cfg = {key: value for key, value in options.get('pad_cfg', {}).items() if key not in ('type', 'size')}
        padding = _pad(dict(cfg, size=[width, height]))
        if padding is None:
            return None
        steps = padding
    return [*steps, dict(center_crop=[height, width])]


def _efficientnet_crop(options: dict) -> list[Step] | None:
    how = _how(dict(interpolation=options.get('interpolation', 'bicubic'), backend=options.get('backend', 'cv2')))
    if how is None:
        return None
    return [dict(efficientnet_crop=options['crop_size'], padding=options.get('crop_padding', 32), **how)]


def _letterbox(options: dict) -> list[Step] | None:
    return [dict(letterbox=options.get('img_size', 640), upscale=bool(options.get('upscale', False)),
                 fill=options.get('fill', 114))]


def _how(options: dict) -> Step | None:
    backend, interpolation = options.get('backend') or 'cv2', options.get('interpolation', 'bilinear')
    if interpolation not in INTERPOLATIONS.get(backend, ()):
        return None
    return dict(interpolation=interpolation, backend=backend)


def _flag(options: dict, name: str) -> Step:
    return {name: True} if options.get(name) else {}


_RESIZE = ('scale', 'scale_factor', 'keep_ratio', 'clip_object_border', 'backend', 'interpolation')
_PAD = ('size', 'size_divisor', 'pad_to_square', 'pad_val', 'padding_mode')
# name of a transform -> its arguments, and what translates them
_TRANSLATORS: dict[str, tuple[tuple[str, ...], Callable[[dict], list[Step] | None]]] = {
    'LoadImageFromFile': (('color_type', 'imdecode_backend', 'to_float32', 'ignore_empty', 'backend_args',
                           'file_client_args'), _load),
    'Resize': (_RESIZE, _resize),
    'FixScaleResize': (_RESIZE, lambda options: _resize(options, rounds=not options.get('keep_ratio'))),
    'FixShapeResize': (('width', 'height', 'pad_val', 'keep_ratio', 'clip_object_border', 'backend', 'interpolation'),
                       _fixed_shape),
    'ResizeEdge': (('scale', 'edge', 'backend', 'interpolation'), _resize_edge),
    'ResizeShortestEdge': (('scale', 'max_size', 'resize_type', 'keep_ratio', 'clip_object_border', 'backend',
                            'interpolation'), _shortest_edge),
    'Pad': (_PAD, _pad),
    'CenterCrop': (('crop_size', 'auto_pad', 'pad_cfg', 'clip_object_border'), _center_crop),
    'EfficientNetCenterCrop': (('crop_size', 'crop_padding', 'interpolation', 'backend'), _efficientnet_crop),
    'LetterBox': (('img_size', 'upscale', 'fill'), _letterbox)}
