"""Fit COCO metrics to the data set and the annotation file that they evaluate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdet.evaluation import CocoMetric

from vitdet_plugin.compat.coco_api import has_mask
from vitdet_plugin.datasets.checks.findings import listed
from vitdet_plugin.datasets.coco import image_file_name
from vitdet_plugin.errors import UserError


def fit_metric(metric: Any, dataset: Any, ann_file: str | None = None) -> list[str]:
    """Check a COCO metric against the data set that is evaluated, and leave out what cannot be measured.

    Args:
        metric: mmdet's ``CocoMetric`` or a subclass; ``img_ids`` and ``metrics`` are set. A metric without annotation
            file, which evaluates the annotations of the data set, is not changed.
        dataset: Data set whose predictions the metric receives.
        ann_file: Annotation file of the metric, for messages.

    Returns:
        Lines that say what is left out.

    Raises:
        UserError: The file has other images or classes than the data set, or nothing is left to measure.
    """
    api = getattr(metric, '_coco_api', None)
    if api is None or not isinstance(metric, CocoMetric):
        return []
    own_file = str(getattr(dataset, 'ann_file', '') or 'the data set')
    source = str(ann_file or getattr(metric, 'ann_file', None) or "the metric's annotation file")
    classes = list((getattr(dataset, 'metainfo', None) or {}).get('classes') or ())
    if missing := [name for name in classes if str(name) not in {str(each.get('name')) for each in api.cats.values()}]:
        raise UserError(f'the evaluator reads {source}, which has no category {listed(missing)} of the data set '
                        f'{own_file}; set ann_file of the evaluator to the file of the data set')
    ids = _check_images(api, dataset, source, own_file)
    lines = []
    if ids is not None and len(ids) < len(api.imgs):
        metric.img_ids = ids
        lines.append(f'{len(ids)} of the {len(api.imgs)} images of {source} are evaluated: the data set has no others')
    if not getattr(metric, 'format_only', False):
        lines += drop_unmeasured(metric, source)
    return lines


def drop_unmeasured(metric: Any, source: str = 'the annotation file') -> list[str]:
    """Remove ``segm`` from the metrics if no annotated object has a mask; return lines for the user.

    Raises:
        UserError: ``segm`` is the only metric.
    """
    objects = [each for each in metric._coco_api.dataset.get('annotations') or () if not each.get('ignore')]
    if not objects:
        return [f'{source} has no annotated objects: average precision is -1']
    if 'segm' not in metric.metrics:
        return []
    without = sum(not has_mask(each) for each in objects)
    if without < len(objects):
        return [f'{without} of the {len(objects)} objects of {source} have no mask: segm leaves them out'
                ] if without else []
    if set(metric.metrics) == {'segm'}:
        raise UserError(f'{source} has no masks, so segm cannot be evaluated; evaluate bbox or add masks')
    metric.metrics = [name for name in metric.metrics if name != 'segm']
    return [f'{source} has no masks: segm is left out, {", ".join(metric.metrics)} is evaluated']


def _check_images(api: Any, dataset: Any, source: str, own_file: str) -> list | None:
    """Return the ids of the images of a data set; None if it does not name them."""
    if not hasattr(dataset, 'get_data_info'):
        return None
    ids, different = [], []
    names = Counter(Path(image_file_name(image) or '').name for image in api.imgs.values())
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        key, path = info.get('img_id'), Path(info.get('img_path') or '')
        ids.append(key)
        there = Path(image_file_name(api.imgs[key]) or '') if key in api.imgs else None
        if there is None or path.name and (path.name != there.name or names[path.name] > 1 and
                                           path.parts[-len(there.parts):] != there.parts):
            different.append(f'id {key} is {path.name}' + (f' and {there}' if there else ' and absent'))
    if different:
        raise UserError(f'the evaluator reads {source}, which has other images or image ids than the data set '
                        f'{own_file} ({len(different)} of {len(ids)} differ: {different[0]}); set ann_file of the '
                        'evaluator to the file of the data set')
    return ids


def check_has_masks(metrics: Sequence[Any], sample: Any) -> None:
    """Check that a prediction has masks if a metric needs them.

    Raises:
        UserError: It has none.
    """
    found = getattr(sample, 'pred_instances', None)
    if found is None or 'masks' in found:
        return
    if any('segm' in (getattr(metric, 'metrics', None) or ()) for metric in metrics):
        raise UserError('the model predicts no masks, so segm cannot be evaluated; use --eval bbox, or set metric of '
                        "the evaluator to 'bbox'")
