"""Files with the predictions of a classifier."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from vitdet_plugin.utils.output_files import write_text


@METRICS.register_module()
class ClassPredictionFile(BaseMetric):
    """Metric that writes predictions sorted by path to a file and returns no values.

    The columns or keys are ``file``, ``truth`` and ``class`` (names), ``score``, and in JSON ``scores`` of all classes
    in the order of ``classes``.

    Args:
        out_file: Output file, ``.csv`` or ``.json``.
        **kwargs: Arguments of mmengine's ``BaseMetric``.
    """

    default_prefix = 'predictions'

    def __init__(self, out_file: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.out_file = Path(out_file)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Collect path, true label and scores of each sample."""
        for sample in data_samples:
            truth = sample.get('gt_label')
            self.results.append((str(sample.get('img_path')), None if truth is None else int(truth),
                                 sample['pred_score'].cpu().tolist()))

    def compute_metrics(self, results: list) -> dict:
        """Write the file; called on rank 0 with the results of all ranks."""
        classes = (self.dataset_meta or {}).get('classes') or [f'class {label}' for label in range(len(results[0][2]))]
        rows = []
        for path, truth, scores in sorted(results):
            label = max(range(len(scores)), key=scores.__getitem__)
            rows.append(dict(file=path, truth='' if truth is None else classes[truth], **{'class': classes[label]},
                             score=scores[label], scores=scores))
        if self.out_file.suffix == '.json':
            write_text(self.out_file, json.dumps(dict(classes=list(classes), predictions=rows)))
        else:
            write_prediction_csv(self.out_file, rows)
        return {}


def write_prediction_csv(path: Path, rows: Sequence[dict]) -> None:
    """Write rows with ``file``, ``class``, ``score`` and optionally ``truth`` to a CSV file; scores have 6 decimals."""
    columns = [name for name in ('file', 'truth', 'class', 'score') if rows and name in rows[0]]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([f'{row[name]:.6f}' if name == 'score' else row[name] for name in columns])
    write_text(path, text.getvalue())
