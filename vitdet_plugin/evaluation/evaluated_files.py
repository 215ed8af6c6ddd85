"""Hook that compares evaluators with the data set before they evaluate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from vitdet_plugin.config.registry import as_list
from vitdet_plugin.datasets.checks.findings import listed
from vitdet_plugin.errors import UserError
from vitdet_plugin.evaluation.ground_truth import check_has_masks, fit_metric


@HOOKS.register_module()
class EvaluatedFilesHook(Hook):
    """Stop before training or testing if an evaluator reads another file than the data set; see :func:`fit_metric`.

    After the first batch, stop if the model predicts no masks and ``segm`` is evaluated.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def before_train(self, runner) -> None:
        """Check the evaluators of the validation before the first iteration."""
        if hasattr(runner._val_loop, 'evaluator'):
            self._fit(runner, 'val', runner._val_loop)

    def before_val(self, runner) -> None:
        """Check the evaluators of the validation."""
        self._fit(runner, 'val', runner.val_loop)

    def before_test(self, runner) -> None:
        """Check the evaluators of the test."""
        self._fit(runner, 'test', runner.test_loop)

    def after_val_iter(self, runner, batch_idx: int, data_batch=None, outputs: Sequence | None = None) -> None:
        """Check the predictions of the first batch."""
        if not batch_idx and outputs:
            check_has_masks(_metrics(runner.val_loop), outputs[0])

    def after_test_iter(self, runner, batch_idx: int, data_batch=None, outputs: Sequence | None = None) -> None:
        """Check the predictions of the first batch."""
        if not batch_idx and outputs:
            check_has_masks(_metrics(runner.test_loop), outputs[0])

    def _fit(self, runner, split: str, loop: Any) -> None:
        trained = _classes(runner._train_loop)
        if trained and (own := _classes(loop)) and own != trained:
            raise UserError(f'{split}_dataloader.dataset has other classes, or another order of them, than '
                            f'train_dataloader.dataset; give both the same metainfo.classes. {split}: {listed(own)}; '
                            f'train: {listed(trained)}')
        dataset, cfgs = loop.dataloader.dataset, runner.cfg.get(f'{split}_evaluator')
        is_by_part = hasattr(loop.evaluator, 'dataset_prefixes')  # mmdet's MultiDatasetsEvaluator
        files = as_list(cfgs.get('metrics') if is_by_part else cfgs)
        for index, metric in enumerate(_metrics(loop)):
            if id(metric) in self._seen:
                continue
            self._seen.add(id(metric))
            cfg = files[index] if index < len(files) else None
            part = dataset.datasets[index] if is_by_part and index < len(getattr(dataset, 'datasets', ())) else dataset
            for line in fit_metric(metric, part, cfg.get('ann_file') if isinstance(cfg, dict) else None):
                if is_main_process():
                    print(f'warning: {line}', flush=True)


def _classes(loop: Any) -> list[str]:
    dataset = getattr(getattr(loop, 'dataloader', None), 'dataset', None)
    return list((getattr(dataset, 'metainfo', None) or {}).get('classes') or ())


def _metrics(loop: Any) -> Sequence[Any]:
    return getattr(getattr(loop, 'evaluator', None), 'metrics', None) or ()
