"""COCO average precision computed by faster-coco-eval."""

import functools

import numpy as np
from mmdet.evaluation import CocoMetric
from mmengine.registry import METRICS

from vitdet_plugin.compat.coco_api import evaluation_for_any_file
from vitdet_plugin.compat.patching import with_globals
from vitdet_plugin.errors import UserError
from vitdet_plugin.evaluation.ground_truth import drop_unmeasured

BACKENDS = ('faster_coco_eval', 'pycocotools')


@METRICS.register_module()
class FastCocoMetric(CocoMetric):
    """A faster version of mmdet's ``CocoMetric`` with the same results.

    faster-coco-eval matches boxes and masks and accumulates the precision in compiled code; the summary is computed by
    pycocotools. Both packages give the same precision and recall arrays (``tests/evaluation/test_fast_coco.py``,
    ``benchmarks/coco_eval.py``).

    Args:
        *args: Positional arguments of ``CocoMetric``.
        backend: 'faster_coco_eval' (default) or 'pycocotools'.
        **kwargs: Keyword arguments of ``CocoMetric``.

    Raises:
        UserError: If the backend is unknown, or ``use_mp_eval=True`` is combined with faster-coco-eval.
    """

    def __init__(self, *args, backend: str = BACKENDS[0], **kwargs) -> None:
        if backend not in BACKENDS:
            raise UserError(f'FastCocoMetric: unknown backend={backend!r}. Use {" or ".join(BACKENDS)}.')
        super().__init__(*args, **kwargs)
        if backend != 'pycocotools' and getattr(self, 'use_mp_eval', False):
            raise UserError("FastCocoMetric: use_mp_eval=True requires backend='pycocotools'. Remove use_mp_eval or "
                            'set the backend.')
        self.backend = backend
        self.ann_file = kwargs.get('ann_file', args[0] if args else None)
        self.iou_thrs = np.atleast_1d(self.iou_thrs)  # CocoMetric compares the thresholds elementwise

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the metrics.

        Args:
            results: Pairs (ground truth, prediction), one per image, as collected by ``CocoMetric.process``.

        Returns:
            Metric names and values, as from ``CocoMetric``; those of masks only if the annotation file has masks. With
            ``classwise`` and both boxes and masks, ``{class}_precision`` is that of boxes and
            ``segm_{class}_precision`` that of masks, where mmdet has one name for both.

        Raises:
            UserError: ``segm`` is the only metric, and the annotation file has no masks.
        """
        if self._coco_api is not None and not self.format_only:
            drop_unmeasured(self)
        if not self.classwise or self.format_only or len(self.metrics) == 1:
            return self._compute(results)
        kinds, found = self.metrics, {}
        try:
            for kind in kinds:
                self.metrics = [kind]
                found.update({f'{kind}_{name}' if name in found else name: value
                              for name, value in self._compute(results).items()})
        finally:
            self.metrics = kinds
        return found

    def _compute(self, results: list) -> dict[str, float]:
        if self.backend == 'pycocotools':
            return super().compute_metrics(results)
        compute = with_globals(CocoMetric.compute_metrics, COCOeval=fast_evaluation())
        return compute(self, results)


@functools.cache
def fast_evaluation() -> type:
    """Return a class with the interface of pycocotools' ``COCOeval``: ``evaluate``, ``accumulate``, ``summarize``."""
    from faster_coco_eval import COCOeval_faster
    from pycocotools.cocoeval import COCOeval

    class FastCOCOeval(COCOeval_faster):
        summarize = COCOeval.summarize  # always reports mAP at 100 detections, also if more are allowed

    return evaluation_for_any_file(FastCOCOeval)
