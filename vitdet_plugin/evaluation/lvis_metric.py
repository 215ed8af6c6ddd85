"""LVIS average precision (arXiv:1908.03195, section 3), computed by faster-coco-eval."""

import os
import tempfile
from collections.abc import Sequence

from mmdet.evaluation import CocoMetric
from mmengine.fileio import load
from mmengine.logging import MMLogger
from mmengine.registry import METRICS

from vitdet_plugin.errors import UserError

_NAMES = {'mAP': 'AP_all', 'mAP_50': 'AP_50', 'mAP_75': 'AP_75', 'mAP_s': 'AP_small', 'mAP_m': 'AP_medium',
          'mAP_l': 'AP_large', 'mAP_r': 'APr', 'mAP_c': 'APc', 'mAP_f': 'APf'}


@METRICS.register_module()
class LVISDetMetric(CocoMetric):
    """LVIS average precision for datasets whose images are annotated for a subset of the classes.

    A detection is evaluated in an image if its class is annotated there or known to be absent. If the annotations of
    its class are not exhaustive, an unmatched detection is not a false positive. Results are ``bbox_mAP``, ``_50``,
    ``_75``, by object size ``_s``, ``_m``, ``_l``, and by frequency of the class ``_r``, ``_c``, ``_f``; -1 if there is
    nothing to average.

    Args:
        ann_file: LVIS annotation file.
        metric: 'bbox', 'segm' or both.
        max_dets: Maximum number of detections per image; those of highest score are kept.
        **kwargs: Other arguments of ``CocoMetric``, such as ``format_only``, ``outfile_prefix`` or ``prefix``.

    Raises:
        UserError: If the metric is unknown.
    """

    default_prefix = 'lvis'

    def __init__(self, ann_file: str, metric: str | Sequence[str] = 'bbox', max_dets: int = 300, **kwargs) -> None:
        super().__init__(ann_file=ann_file, metric=metric, **kwargs)
        if unknown := set(self.metrics) - {'bbox', 'segm'}:
            raise UserError(f'LVISDetMetric: unknown metric {", ".join(sorted(unknown))}. Use bbox, segm or both.')
        self.ann_file, self.max_dets = ann_file, max_dets

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the metrics.

        Args:
            results: Pairs (ground truth, prediction), one per image, as collected by ``CocoMetric.process``.

        Returns:
            Metric names and values; empty with ``format_only``.
        """
        logger = MMLogger.get_current_instance()
        self.cat_ids = self._coco_api.get_cat_ids(cat_names=self.dataset_meta['classes'])
        predictions = [_best(prediction, self.max_dets) for _, prediction in results]
        with tempfile.TemporaryDirectory() as scratch:
            files = self.results2json(predictions, self.outfile_prefix or os.path.join(scratch, 'results'))
            if self.format_only:
                logger.info(f'results were saved to {self.outfile_prefix}.*.json')
                return {}
            found = {metric: load(files[metric]) for metric in self.metrics}
        scores = {}
        for metric, detections in found.items():
            logger.info(f'Evaluating {metric}...')
            scores.update({f'{metric}_{name}': value for name, value in self._score(metric, detections).items()})
        return scores

    def _score(self, metric: str, detections: list[dict]) -> dict[str, float]:
        from faster_coco_eval import COCO, COCOeval_faster
        if not detections:
            return dict.fromkeys(_NAMES, 0.0)
        truth = COCO()
        content = self._coco_api.dataset
        truth.dataset = {**content, 'annotations': [dict(each) for each in content['annotations']]}
        truth.createIndex()
        if metric == 'segm':  # without bbox, faster-coco-eval takes the object size from the mask
            detections = [{key: value for key, value in each.items() if key != 'bbox'} for each in detections]
        evaluation = COCOeval_faster(truth, truth.loadRes(detections), metric, lvis_style=True,
                                     print_function=MMLogger.get_current_instance().info)
        evaluation.params.maxDets = [self.max_dets]
        evaluation.params.catIds = sorted(self.cat_ids)
        evaluation.params.imgIds = sorted(truth.imgs if self.img_ids is None else self.img_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        stats = evaluation.stats_as_dict
        return {name: round(stats[key], 4) for name, key in _NAMES.items()}


def _best(prediction: dict, count: int) -> dict:
    """Return the ``count`` detections of highest score."""
    if len(prediction['scores']) <= count:
        return prediction
    kept = sorted((-prediction['scores']).argsort(kind='stable')[:count])
    return {key: value if key == 'img_id' else
            [value[i] for i in kept] if isinstance(value, list) else value[kept] for key, value in prediction.items()}
