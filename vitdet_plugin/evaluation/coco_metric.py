"""COCO's average precision with faster-coco-eval's compiled loops in the place of pycocotools' Python ones."""

import functools

import numpy as np
from mmdet.evaluation import CocoMetric
from mmengine.registry import METRICS

from vitdet_plugin.compat.patching import with_globals
from vitdet_plugin.errors import UserError

BACKENDS = ('faster_coco_eval', 'pycocotools')


@METRICS.register_module()
class FastCocoMetric(CocoMetric):
    """mmdet's ``CocoMetric``, the same figures several times as fast.

    Boxes and masks are matched, and precision is accumulated, by faster-coco-eval; the summary is pycocotools'. Both
    give the same arrays of precision and recall (``tests/evaluation/test_fast_coco.py``, ``benchmarks/coco_eval.py``).

    Args:
        backend: 'faster_coco_eval', or 'pycocotools' for the original.
        *args, **kwargs: of ``CocoMetric``.

    Raises:
        UserError: Unknown backend, or ``use_mp_eval``, which is pycocotools' own way to be faster, beside another.
    """

    def __init__(self, *args, backend: str = BACKENDS[0], **kwargs) -> None:
        if backend not in BACKENDS:
            raise UserError(f'FastCocoMetric: backend={backend!r}: choose {" or ".join(BACKENDS)}')
        super().__init__(*args, **kwargs)
        if backend != 'pycocotools' and getattr(self, 'use_mp_eval', False):
            raise UserError("FastCocoMetric: use_mp_eval=True is for backend='pycocotools'")
        self.backend = backend
        self.iou_thrs = np.atleast_1d(self.iou_thrs)  # a config's list is compared element by element

    def compute_metrics(self, results: list) -> dict[str, float]:
        """``results``: (ground truth, prediction) a picture, as ``CocoMetric.process`` collects them."""
        if self.backend == 'pycocotools':
            return super().compute_metrics(results)
        compute = with_globals(CocoMetric.compute_metrics, COCOeval=fast_evaluation())
        return compute(self, results)


@functools.cache
def fast_evaluation() -> type:
    """A class with the interface of pycocotools' ``COCOeval``: ``evaluate``, ``accumulate``, ``summarize``."""
    from faster_coco_eval import COCOeval_faster
    from pycocotools.cocoeval import COCOeval

    class FastCOCOeval(COCOeval_faster):
        summarize = COCOeval.summarize  # which takes mAP at 100 detections also where more are allowed

    return FastCOCOeval
