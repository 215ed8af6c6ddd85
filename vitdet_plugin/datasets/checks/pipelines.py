"""Check the order of the transforms in pipelines: what mmdet accepts although boxes and images then disagree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.config import Config

from vitdet_plugin.config.dataset_config import pipeline_steps, split_datasets
from vitdet_plugin.config.registry import as_list, is_coco_metric, type_name
from vitdet_plugin.datasets.checks.findings import Finding

# ends of the names of transforms that move or scale pixels and the boxes that are loaded
_MOVING = ('Resize', 'Flip', 'Crop', 'CropPad', 'Affine', 'Rotate', 'ShearX', 'ShearY', 'TranslateX', 'TranslateY',
           'Expand', 'ScaleJitter', 'LetterBox')
# of these, detections are mapped back to the original image
_MAPPED_BACK = ('Resize', 'LetterBox')
_TRUTH_OF_SAMPLES = ('VOCMetric', 'OpenImagesMetric')  # they compare with the loaded boxes, in original pixels
_META_KEYS = ('ori_shape', 'img_shape')  # a detector reads them, and scale_factor of resized images


def check_pipelines(cfg: Config, splits: Sequence[str]) -> list[Finding]:
    """Return findings about the pipelines of the data sets.

    Args:
        cfg: Complete config.
        splits: Which of train, val, test will run.
    """
    findings: list[Finding] = []
    for split in splits:
        for path, dataset in split_datasets(cfg, split):
            steps = [*_steps(dataset.get('pipeline'))]
            texts = [*_normalized_twice(cfg, steps)]
            if _first(steps, ('PackDetInputs',)) is not None:
                texts += _of_training(steps) if split == 'train' else _of_evaluation(cfg, split, steps)
            findings += [Finding('error', f'{path}.pipeline: {text}') for text in texts]
    return findings


def _steps(pipeline: Any) -> Iterator[dict]:
    """Yield the transforms in order, with those inside others, except views of test-time augmentation."""
    views: tuple[str, ...] = ()
    for path, step in pipeline_steps(pipeline, ''):
        if not path.startswith(views):
            yield step
        if type_name(step).endswith(('TestTimeAug', 'FlipAug')):
            views += (f'{path}.',)


def _first(steps: Sequence[dict], ends: tuple[str, ...]) -> int | None:
    """Return the index of the first transform whose name ends in one of ``ends``, without those of probability 0.

    ``test_mode`` is CornerNet's: the crop pads the image, and its detections are mapped back.
    """
    return next((index for index, step in enumerate(steps) if type_name(step).endswith(ends)
                 and step.get('prob') != 0 and not step.get('test_mode')), None)


def _normalized_twice(cfg: Config, steps: Sequence[dict]) -> Iterator[str]:
    preprocessors = [part for part in (cfg.get('data_preprocessor'), (cfg.get('model') or {}).get('data_preprocessor'))
                     if isinstance(part, dict)]
    if _first(steps, ('Normalize',)) is not None and any(part.get('mean') is not None for part in preprocessors):
        yield ('Normalize, but data_preprocessor has a mean, so that images are normalized twice; remove Normalize '
               'from the pipeline')


def _of_training(steps: Sequence[dict]) -> Iterator[str]:
    moved, loaded = _first(steps, _MOVING), _first(steps, ('LoadAnnotations',))
    if moved is not None and loaded is not None and moved < loaded:
        yield (f'LoadAnnotations after {type_name(steps[moved])}: boxes and masks stay those of the original image; '
               'load them before the first transform that moves or scales pixels')


def _of_evaluation(cfg: Config, split: str, steps: Sequence[dict]) -> Iterator[str]:
    others = tuple(end for end in _MOVING if end not in _MAPPED_BACK)
    if (index := _first(steps, others)) is not None:
        yield (f'{type_name(steps[index])}: detections are not mapped back, and do not fit the objects of the original '
               'image; remove it (--tta evaluates flipped images too)')
    evaluators = [each for each in as_list(cfg.get(f'{split}_evaluator')) if isinstance(each, dict)]
    loaded = _first(steps, ('LoadAnnotations',))
    for name in (type_name(each) for each in evaluators if type_name(each).endswith(_TRUTH_OF_SAMPLES)):
        moved = _first(steps, _MOVING)
        if loaded is None:
            yield (f"{name} compares with the loaded boxes; add dict(type='LoadAnnotations', with_bbox=True) after "
                   'Resize')
        elif moved is not None and loaded < moved:
            yield (f'LoadAnnotations before {type_name(steps[moved])}: {name} compares with boxes in pixels of the '
                   'original image; load them after it')
    packing = next(step for step in steps if type_name(step).endswith('PackDetInputs'))
    needed = [*_META_KEYS]
    if _first(steps, _MAPPED_BACK) is not None:
        needed.append('scale_factor')
    if any(map(is_coco_metric, evaluators)):
        needed.append('img_id')
    keys = packing.get('meta_keys')
    if keys is not None and (missing := [key for key in needed if key not in as_list(keys)]):
        yield f'PackDetInputs.meta_keys lacks {", ".join(missing)}; add {"it" if len(missing) == 1 else "them"}'
