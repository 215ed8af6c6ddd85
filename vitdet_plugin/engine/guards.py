"""A hook that stops training, or skips the step, when the loss is not finite."""

import json
import logging
import os
from collections.abc import Sequence

import torch
from mmengine.dist import all_gather_object, all_reduce, get_rank, is_distributed, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS

from vitdet_plugin.compat.atomic_save import write_atomically
from vitdet_plugin.compat.optim_step import guard_steps, watch_losses
from vitdet_plugin.errors import UserError


def any_rank(flag: bool, like: torch.Tensor | None = None) -> bool:
    """Return whether ``flag`` is true on any rank; a collective call.

    Args:
        flag: The value of this rank.
        like: A tensor on the device used for communication; the CPU by default.
    """
    if not is_distributed():
        return flag
    value = torch.tensor([float(flag)], device='cpu' if like is None else like.device)
    all_reduce(value, 'max')
    return bool(value.item())


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Stop training or skip the step if the loss is NaN or infinite, before the weights are updated.

    Stopping writes ``nonfinite_iter_<n>.pth`` (the state before the step, ignored by ``--resume`` without a path) and
    ``nonfinite_iter_<n>.json`` (loss terms and image paths of every rank) to the work directory.

    Args:
        action: 'stop' or 'skip'.
        max_skips: With ``action='skip'``, stop when more than this number of steps were skipped in this run.

    Raises:
        UserError: If the action is unknown; from the training step, if training stops.
    """

    def __init__(self, action: str = 'stop', max_skips: int = 100):
        if action not in ('stop', 'skip'):
            raise UserError(f'NonFiniteLossHook: unknown action={action!r}. Use stop or skip.')
        self.action, self.max_skips = action, max_skips
        self.skipped = 0
        self._images: list[str] = []
        self._parts: dict = {}

    def before_train(self, runner) -> None:
        def is_refused(loss: torch.Tensor) -> bool:
            refused = any_rank(not bool(torch.isfinite(loss).all()), loss)
            if refused:
                self._handle(runner)
            return refused

        if guard_steps(runner.optim_wrapper, is_refused):
            model = runner.model.module if is_model_wrapper(runner.model) else runner.model
            watch_losses(model, self._receive_parts)

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        self._images = images_of(data_batch)

    def _receive_parts(self, parts: dict) -> None:
        self._parts = parts

    def _handle(self, runner) -> None:
        step = runner.iter + 1
        parts = {name: float(torch.as_tensor(value).detach()) for name, value in self._parts.items()}
        mine = dict(rank=get_rank(), losses={name: repr(value) for name, value in parts.items()}, images=self._images)
        everyone = all_gather_object(mine)
        bad = [each for each in everyone if any(v in ('nan', 'inf', '-inf') for v in each['losses'].values())]
        what = '; '.join(f'{", ".join(f"{k} {v}" for k, v in each["losses"].items() if v in ("nan", "inf", "-inf"))} '
                         f'for {", ".join(each["images"]) or "unnamed images"}' for each in bad)
        if self.action == 'skip' and self.skipped < self.max_skips:
            self.skipped += 1
            runner.message_hub.update_info('skipped_nonfinite_steps', self.skipped)
            runner.logger.log(logging.WARNING, f'skipped iteration {step} ({self.skipped} skipped in total): {what}')
            return
        stem = f'nonfinite_iter_{step}'
        runner.save_checkpoint(runner.work_dir, f'{stem}.pth', meta=dict(epoch=runner.epoch, iter=runner.iter),
                               by_epoch=False)
        if is_main_process():
            text = json.dumps(dict(iteration=step, ranks=everyone), indent=1).encode()
            write_atomically(os.path.join(runner.work_dir, f'{stem}.json'), lambda file: file.write(text))
        reason = f'more than {self.max_skips} steps were skipped; ' if self.action == 'skip' else ''
        raise UserError(f'{reason}the loss at iteration {step} is not finite: {what}. The weights before this step and '
                        f'the image paths are in {os.path.join(runner.work_dir, stem)}.pth and .json. Check the '
                        'images, lower the learning rate, clip gradients, or set '
                        'default_hooks.nonfinite_loss.action=skip.')


def images_of(batch) -> list[str]:
    """Return the paths or ids of the images of a training batch, '?' for images without either."""
    samples = batch.get('data_samples', ()) if isinstance(batch, dict) else ()
    names = []
    for sample in samples if isinstance(samples, Sequence) else ():
        info = getattr(sample, 'metainfo', {})
        names.append(str(info.get('img_path') or info.get('img_id') or info.get('sample_idx') or '?'))
    return names
