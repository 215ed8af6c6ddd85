"""Early stopping that continues after a resume."""

from __future__ import annotations

import math
from typing import Any

from mmengine.hooks import EarlyStoppingHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from vitdet_plugin.config.registry import as_list
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.arguments import check_whole

_STATE = 'early_stopping'


@HOOKS.register_module()
class PatienceHook(EarlyStoppingHook):
    """Stop the training after some evaluations without an improvement.

    Differences from mmengine's ``EarlyStoppingHook``: ``monitor`` may be 'auto', equal scores are no improvement, an
    absent metric is an error, and the best score and the count are saved in checkpoints.

    Args:
        patience: Number of evaluations in a row without an improvement.
        monitor: Name of the metric; 'auto' is the one that selects the best checkpoint, or else the first.
        min_delta: Smallest difference to the best score that is an improvement.
        rule: 'greater' or 'less'; by default that of the hook that saves the best checkpoint, or else from the name of
            the metric, 'less' for losses.
        check_finite: Whether a score that is not finite stops the training.
    """

    def __init__(self, patience: int = 10, monitor: str = 'auto', min_delta: float = 0.0, rule: str | None = None,
                 check_finite: bool = True) -> None:
        check_whole(1, patience=patience)
        super().__init__(monitor, rule or ('greater' if monitor == 'auto' else None), min_delta,
                         check_finite=check_finite, patience=patience)
        self.min_delta, self._given_rule = min_delta, rule

    def before_train(self, runner: Runner) -> None:
        """Continue from the state of a resumed checkpoint."""
        if runner.val_loop is None:
            raise UserError('PatienceHook (--patience): the config has no validation set to watch; remove the hook')
        state = runner.message_hub.runtime_info.get(_STATE)
        if state:
            self.monitor, self.rule, self.best_score, self.wait_count = state

    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        """Compare the score with the best one."""
        metrics = metrics or {}
        is_first, rule = self.monitor == 'auto', None
        if is_first:
            self.monitor, rule = self._selecting_metric(runner, metrics)
        if self.monitor not in metrics:
            raise UserError(f'PatienceHook: monitor={self.monitor!r} is not one of the metrics: '
                            f'{", ".join(metrics) or "none"}')
        if is_first:
            self.rule = self._given_rule or rule or self._rule_of_name()
            self.best_score = -math.inf if self.rule == 'greater' else math.inf
        score = float(metrics[self.monitor])
        gain = score - self.best_score if self.rule == 'greater' else self.best_score - score
        if gain > self.min_delta:
            self.best_score, self.wait_count = score, 0
        else:
            self.wait_count += 1
        runner.message_hub.update_info(_STATE, (self.monitor, self.rule, self.best_score, self.wait_count))
        if self.check_finite and not math.isfinite(score):
            self._stop(runner, f'{self.monitor} is {score}')
        elif self.wait_count >= self.patience:
            self._stop(runner, f'{self.monitor} did not improve on {self.best_score:.4g} in {self.wait_count} '
                               'evaluations')

    def _stop(self, runner: Runner, reason: str) -> None:
        runner.train_loop.stop_training = True
        runner.logger.info(f'training ends early: {reason}')

    def _rule_of_name(self) -> str:
        try:
            rule: str = self._init_rule(self.monitor)
        except ValueError:
            raise UserError(f'PatienceHook (--patience): the name {self.monitor} does not say whether a higher value '
                            "is better; set default_hooks.checkpoint.rule to 'greater' or 'less'") from None
        return rule

    @staticmethod
    def _selecting_metric(runner: Runner, metrics: dict[str, Any]) -> tuple[str, str | None]:
        """Return the metric that selects the best checkpoint, or else the first, and its rule if the config has one."""
        hook = (runner.cfg.get('default_hooks') or {}).get('checkpoint') or {}
        best, rule = (as_list(hook.get(key) or [None])[0] for key in ('save_best', 'rule'))
        if best in metrics:
            return best, rule
        return next(iter(metrics), 'a metric'), rule if best == 'auto' else None
