"""Warm-up in which biases start fast and everything else slowly, with rising momentum (YOLOv5's)."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from vitdet_plugin.errors import UserError


@HOOKS.register_module()
class BiasWarmupHook(Hook):
    """For the first iterations, leads rates and momentum linearly to what the schedulers ask for.

    Weights and scales start from rate 0, biases (groups with ``kind='bias'`` of :class:`ParameterKindConstructor`) from
    ``bias_lr``, the momentum (SGD's, or Adam's first beta) from ``momentum``. The schedulers are not disturbed: what
    they set is put back after each step.

    Args:
        epochs: length in epochs, for an epoch-based training; where it is given, at least ``iters``.
        iters: length in iterations.
        bias_lr: rate from which the biases start.
        momentum: from which the momentum starts; None leaves it alone.
    """

    priority = 'NORMAL'  # before the schedulers take their step

    def __init__(self, epochs: float | None = None, iters: int = 100, bias_lr: float = 0.1,
                 momentum: float | None = 0.8) -> None:
        self.epochs, self.iters, self.bias_lr, self.momentum = epochs, iters, bias_lr, momentum
        self._scheduled: list[dict] | None = None

    def before_train(self, runner) -> None:
        """Count the iterations of the warm-up; look for the groups of biases."""
        self.length = self.iters
        if self.epochs is not None:
            self.length = max(round(self.epochs * len(runner.train_dataloader)), self.iters)
        groups = runner.optim_wrapper.optimizer.param_groups
        if not any(group.get('kind') == 'bias' for group in groups):
            raise UserError('BiasWarmupHook: the optimiser has no groups of biases; set '
                            "optim_wrapper.constructor='ParameterKindConstructor'")

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Set the rates of this iteration."""
        if runner.iter >= self.length:
            return
        done = runner.iter / self.length
        self._scheduled = []
        for group in runner.optim_wrapper.optimizer.param_groups:
            start = self.bias_lr if group.get('kind') == 'bias' else 0.0
            target, self_scheduled = group['lr'], dict(lr=group['lr'])
            group['lr'] = start + (target - start) * done
            if self.momentum is not None:
                self_scheduled['momentum'] = momentum = get_momentum(group)
                set_momentum(group, self.momentum + (momentum - self.momentum) * done)
            self._scheduled.append(self_scheduled)
        runner.message_hub.update_scalar('train/lr', runner.optim_wrapper.optimizer.param_groups[0]['lr'])

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Put back what the schedulers had set."""
        if self._scheduled is None:
            return
        for group, scheduled in zip(runner.optim_wrapper.optimizer.param_groups, self._scheduled, strict=True):
            group['lr'] = scheduled['lr']
            if 'momentum' in scheduled:
                set_momentum(group, scheduled['momentum'])
        self._scheduled = None


def get_momentum(group: dict) -> float:
    """SGD's momentum, or the first of Adam's betas."""
    return group['betas'][0] if 'betas' in group else group.get('momentum', 0.0)


def set_momentum(group: dict, value: float) -> None:
    """The counterpart of :func:`get_momentum`."""
    if 'betas' in group:
        group['betas'] = (value, *group['betas'][1:])
    elif 'momentum' in group:
        group['momentum'] = value
