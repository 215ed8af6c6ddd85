"""Evaluate files of other tools with mmdet's COCO classes: categories by name, objects without a mask or ``iscrowd``.

mmdet numbers labels by the order of the categories in the file, so a config with another order trains and evaluates
mixed labels. pycocotools sorts the categories by id, so that the rows of mmdet's table of classes carry the names of
others. Objects without a mask or without ``iscrowd``, and results without any detection, end in a traceback.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from vitdet_plugin.coco.content import parse_flag
from vitdet_plugin.compat.patching import Patch

_UPSTREAM = 'mmdet 3.3, onedl-mmdetection 3.5'
_API, _METRIC = 'mmdet.datasets.api_wrappers.coco_api.COCO', 'mmdet.evaluation.metrics.coco_metric'
_CATEGORIES = Patch(_API, 'get_cat_ids', upstream=_UPSTREAM,
                    why='labels follow the order of the file, not that of metainfo.classes')
_RESULTS = Patch(_API, 'loadRes', upstream=_UPSTREAM, why='an empty list of results is an IndexError')
_EVALUATIONS = [Patch(_METRIC, name, upstream=_UPSTREAM,
                      why='per-class results sorted by category id; objects without a mask or iscrowd are errors')
                for name in ('COCOeval', 'COCOevalMP')]


def install() -> None:
    """Patch mmdet's COCO API and the evaluation classes that its metric uses, once."""
    _CATEGORIES.install(_in_order_of_names)
    _RESULTS.install(_accept_no_results)
    for patch in _EVALUATIONS:
        patch.install(functools.partial(evaluation_for_any_file, module=_METRIC))


def _in_order_of_names(get_cat_ids):
    @functools.wraps(get_cat_ids)
    def ordered(self, cat_names=(), sup_names=(), cat_ids=()):
        names = [str(name) for name in ([cat_names] if isinstance(cat_names, str) else cat_names)]
        if not names or len(set(names)) != len(names):
            return get_cat_ids(self, cat_names=cat_names, sup_names=sup_names, cat_ids=cat_ids)
        ids: dict[str, list] = {}
        for key in get_cat_ids(self, sup_names=sup_names, cat_ids=cat_ids):
            ids.setdefault(str(self.cats[key].get('name')), []).append(key)  # some files have numbers as names
        return [key for name in names for key in _with_objects(self, ids.get(name, []))]

    return ordered


def _with_objects(api: Any, ids: list) -> list:
    """Of several categories of one name, such as Roboflow's root category, return those with annotations."""
    return ids if len(ids) < 2 else [key for key in ids if api.catToImgs.get(key)] or ids[:1]


def _accept_no_results(load):
    @functools.wraps(load)
    def loaded(self, results):
        if not isinstance(results, list) or results:
            return load(self, results)
        empty = type(self)()
        empty.dataset = dict(images=list(self.dataset['images']), categories=list(self.dataset['categories']),
                             annotations=[])
        empty.createIndex()
        return empty

    return loaded


def evaluation_for_any_file(base: type, module: str = __name__) -> type:
    """Return a subclass of an evaluation class of pycocotools or faster-coco-eval for annotations of any origin.

    ``iscrowd`` is 0 where it is missing. With masks, objects without one are ignored: they are neither missed nor
    does a detection in their box count as wrong. The per-class results of ``eval`` are in the order of
    ``params.catIds`` as given, which pycocotools sorts.

    Args:
        base: The class.
        module: Module that has the subclass under the name of ``base``, where pickle looks for it.
    """

    class AnyFileEvaluation(base):
        def __init__(self, cocoGt=None, cocoDt=None, iouType='segm', *args, **kwargs):
            given = None if cocoGt is None else usable_truth(cocoGt, iouType)
            super().__init__(given, cocoDt, iouType, *args, **kwargs)

        def evaluate(self):
            self._given_ids = list(self.params.catIds)
            super().evaluate()

        def accumulate(self, *args, **kwargs):
            super().accumulate(*args, **kwargs)
            if not self.params.useCats:
                return
            order = np.searchsorted(np.unique(self._given_ids), self._given_ids)
            for name, axis in (('precision', 2), ('recall', 1), ('scores', 2)):
                values = self.eval.get(name)
                if values is not None and np.shape(values)[axis] == len(order):
                    self.eval[name] = np.take(values, order, axis)

    AnyFileEvaluation.__name__ = AnyFileEvaluation.__qualname__ = base.__name__
    AnyFileEvaluation.__module__ = module
    return AnyFileEvaluation


def usable_truth(truth: Any, kind: str) -> Any:
    """Return ground truth that pycocotools can evaluate.

    Args:
        truth: A ``COCO`` object; missing ``iscrowd`` and ``annotations`` are added to it.
        kind: ``'bbox'``, ``'segm'``, …; for ``'segm'`` a copy is returned if objects have no mask.
    """
    annotations = truth.dataset.setdefault('annotations', [])
    for each in annotations:
        flag = parse_flag(each.get('iscrowd'))
        each['iscrowd'] = 1 if flag is None else flag
    if kind != 'segm' or all(has_mask(each) for each in annotations):
        return truth
    copied = type(truth)()
    copied.dataset = {**truth.dataset, 'annotations': [each if has_mask(each) else _ignored(each)
                                                       for each in annotations]}
    copied.createIndex()
    return copied


def has_mask(annotation: dict) -> bool:
    """Whether ``segmentation`` is a run-length code or has only polygons of at least three points."""
    mask = annotation.get('segmentation')
    if isinstance(mask, dict):
        return bool(mask.get('counts')) and bool(mask.get('size'))
    return isinstance(mask, list) and bool(mask) and all(
        isinstance(polygon, Sequence) and len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in mask)


def _ignored(annotation: dict) -> dict:
    x, y, w, h = annotation['bbox']
    return {**annotation, 'iscrowd': 1, 'segmentation': [[x, y, x + w, y, x + w, y + h, x, y + h]]}
