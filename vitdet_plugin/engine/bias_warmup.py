"""Warmup of learning rates and momentum with a high initial learning rate for biases, as in YOLOv5."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from vitdet_plugin.errors import UserError


@HOOKS.register_module()
class BiasWarmupHook(Hook):
    """Interpolate learning rates and momentum linearly to the scheduled values during the first iterations.

    Weights and scales start from a learning rate of 0, biases (groups with ``kind='bias'`` of
    :class:`ParameterKindConstructor`) from ``bias_lr``, the momentum (of SGD, or the first beta of Adam) from
    ``momentum``. The values of the schedulers are restored after each step.

    Args:
        epochs: Length of the warmup in epochs, for epoch-based training; the warmup takes at least ``iters``.
        iters: Length of the warmup in iterations.
        bias_lr: Initial learning rate of the biases.
        momentum: Initial momentum; None keeps the scheduled one.

    Raises:
        UserError: If the optimizer has no parameter groups with ``kind='bias'``.
    """

    priority = 'NORMAL'  # runs before the schedulers step

    def __init__(self, epochs: float | None = None, iters: int = 100, bias_lr: float = 0.1,
                 momentum: float | None = 0.8) -> None:
        self.epochs, self.iters, self.bias_lr, self.momentum = epochs, iters, bias_lr, momentum
        self._scheduled: list[dict] | None = None

    def before_train(self, runner) -> None:
        """Compute the length of the warmup and check that the optimizer has groups of biases."""
        self.length = self.iters
        if self.epochs is not None:
            self.length = max(round(self.epochs * len(runner.train_dataloader)), self.iters)
        groups = runner.optim_wrapper.optimizer.param_groups
        if not any(group.get('kind') == 'bias' for group in groups):
            raise UserError('BiasWarmupHook: the optimizer has no parameter groups of biases. Set '
                            "optim_wrapper.constructor='ParameterKindConstructor'.")

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Set the learning rates and momentum of this iteration."""
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
        """Restore the values set by the schedulers."""
        if self._scheduled is None:
            return
        for group, scheduled in zip(runner.optim_wrapper.optimizer.param_groups, self._scheduled, strict=True):
            group['lr'] = scheduled['lr']
            if 'momentum' in scheduled:
                set_momentum(group, scheduled['momentum'])
        self._scheduled = None


def get_momentum(group: dict) -> float:
    """Return the momentum of a parameter group: ``momentum`` of SGD or the first beta of Adam."""
    return group['betas'][0] if 'betas' in group else group.get('momentum', 0.0)


def set_momentum(group: dict, value: float) -> None:
    """Set the momentum of a parameter group, see :func:`get_momentum`."""
    if 'betas' in group:
        group['betas'] = (value, *group['betas'][1:])
    elif 'momentum' in group:
        group['momentum'] = value
