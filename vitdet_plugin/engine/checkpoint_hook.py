"""Atomic checkpoints, with the additional state that an exact resume requires."""

import os
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from torch.distributed.fsdp import FullyShardedDataParallel

from vitdet_plugin.compat.atomic_save import remove_unfinished, write_atomically

_INTERRUPTED = 'interrupted_ckpt'


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """``CheckpointHook`` that removes an old checkpoint, or the former best, only after the new one is complete.

    The order is: new file, ``last_checkpoint``, removal of outdated files. The tools use it instead of
    ``CheckpointHook``; its arguments are the same.
    """

    _saved: int | None = None  # steps finished at the last checkpoint of this run

    def before_train(self, runner) -> None:
        super().before_train(runner)
        self._saved = None
        if is_main_process() and os.path.isdir(self.out_dir):
            remove_unfinished(self.out_dir)

    def save_now(self, runner, finished: int) -> str:
        """Save the state after ``finished`` steps, unless that was done already; return the path."""
        if self._saved == finished:
            return self.last_ckpt
        meta = dict(epoch=runner.epoch, iter=finished)
        if not self.by_epoch:
            self._save_checkpoint_with_step(runner, finished, meta)
            return self.last_ckpt
        name = f'iter_{finished}.pth'
        path = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info(_INTERRUPTED, path)
        self._save_as(runner, name, meta, by_epoch=False)  # FlexibleRunner uses the same for iterations
        return path

    def _save_checkpoint_with_step(self, runner, step, meta) -> None:
        outdated = []
        if self.max_keep_ckpts > 0:
            kept = [each for each in self.keep_ckpt_ids if each != step] + [step]
            self.keep_ckpt_ids.clear()
            self.keep_ckpt_ids.extend(kept)  # a deque of the right length
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
            outdated = [self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(each))
                        for each in kept if each not in self.keep_ckpt_ids]
        interrupted = runner.message_hub.get_info(_INTERRUPTED)
        if interrupted:
            runner.message_hub.update_info(_INTERRUPTED, None)
            outdated.append(interrupted)
        self._save_as(runner, self.filename_tmpl.format(step), meta, self.by_epoch)
        if is_main_process():
            for path in outdated:
                _remove(self.file_backend, path)

    def _save_as(self, runner, name: str, meta: dict, by_epoch: bool) -> None:
        for hook in runner.hooks:
            if isinstance(hook, ResumeStateHook):
                hook.collect_gradients(runner)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(self.out_dir, name, self.file_client_args, save_optimizer=self.save_optimizer,
                               save_param_scheduler=self.save_param_scheduler, meta=meta, by_epoch=by_epoch,
                               backend_args=self.backend_args, **self.args)
        if is_main_process():
            note = self.last_ckpt.encode()
            write_atomically(Path(runner.work_dir) / 'last_checkpoint', lambda file: file.write(note))
        self._saved = meta['iter']

    def _save_best_checkpoint(self, runner, metrics) -> None:
        with self._removing_later():
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _removing_later(self):
        backend, self.file_backend = self.file_backend, _RemovesLater(self.file_backend)
        try:
            yield
            outdated, best = self.file_backend.outdated, getattr(self, 'best_ckpt_path', None)
        finally:
            self.file_backend = backend
        for path in outdated:
            if path != best:
                _remove(backend, path)


class _RemovesLater:
    """A file backend that records which files to remove instead of removing them."""

    def __init__(self, backend):
        self._backend = backend
        self.outdated: list[str] = []

    def remove(self, path: str) -> None:
        self.outdated.append(path)

    rmtree = remove

    def __getattr__(self, name: str):
        return getattr(self._backend, name)


def _remove(backend, path: str) -> None:
    if backend.isfile(path):
        backend.remove(path)
    elif backend.isdir(path):  # sharded checkpoints
        backend.rmtree(path)


@HOOKS.register_module()
class ResumeStateHook(Hook):
    """Save and resume the position within the epoch, and gradients that are accumulated but not yet applied.

    The tools add it. Accumulated gradients of several ranks are averaged when a checkpoint is saved, as the next
    synchronized step would do.
    """

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self._collected: dict[str, torch.Tensor] | None = None  # for the checkpoint that is about to be saved
        self._gradients: dict[str, torch.Tensor] | None = None  # from the checkpoint that was loaded

    def collect_gradients(self, runner) -> None:
        """Average accumulated gradients over the ranks, in place; every rank has to call it, unlike the saving."""
        if not _is_accumulating(runner):
            return
        parameters = {name: each for name, each in runner.model.named_parameters() if each.requires_grad}
        present = torch.tensor([float(each.grad is not None) for each in parameters.values()],
                               device=next(iter(parameters.values())).device)
        all_reduce(present, 'max')
        self._collected = {}
        for (name, parameter), is_present in zip(parameters.items(), present.tolist()):
            if is_present:
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                all_reduce(parameter.grad, 'mean')
                self._collected[name] = parameter.grad.cpu()

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        if 'optimizer' not in checkpoint:
            return
        if hasattr(runner.train_loop, 'state_dict'):
            checkpoint['position'] = runner.train_loop.state_dict()
        if self._collected:
            checkpoint['gradients'], self._collected = self._collected, None

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        if not runner._resume:
            return
        meta = checkpoint['meta']
        if 'position' in checkpoint and hasattr(runner.train_loop, 'load_state_dict'):
            runner.train_loop.load_state_dict(checkpoint['position'], meta['epoch'], meta['iter'])
        self._gradients = checkpoint.get('gradients')

    def before_train(self, runner) -> None:
        gradients, self._gradients = self._gradients, None
        for name, parameter in runner.model.named_parameters() if gradients else ():
            if name in gradients:
                parameter.grad = gradients[name].to(parameter)


def _is_accumulating(runner) -> bool:
    wrapper = runner.optim_wrapper
    if isinstance(runner.model, FullyShardedDataParallel):  # each rank has different parts: docs/distributed.md
        return False
    every = getattr(wrapper, '_accumulative_counts', 1)
    return every > 1 and not wrapper.should_update() and torch.is_grad_enabled()
