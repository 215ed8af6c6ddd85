"""Atomic checkpoints, with the additional state that an exact resume requires."""

import os
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, broadcast_object_list, is_main_process
from mmengine.hooks import CheckpointHook, EMAHook, Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS
from torch.distributed.tensor import DTensor

from vitdet_plugin.compat.atomic_save import remove_unfinished, save_atomically
from vitdet_plugin.engine.fsdp import gather, like
from vitdet_plugin.engine.progress import restart_timer
from vitdet_plugin.engine.training_data import describe_batch_change, describe_change, fingerprint
from vitdet_plugin.errors import UserError

_INTERRUPTED = 'interrupted_ckpt'


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """``CheckpointHook`` that removes an old checkpoint, or the former best, only after the new one is complete.

    The order is: new file, ``last_checkpoint``, removal of outdated files. Files outside of the run's folder are never
    removed: a run that resumes from a checkpoint in another folder starts to count checkpoints and the best metric
    again. The tools use it instead of ``CheckpointHook``; its arguments are the same.
    """

    _saved: int | None = None  # steps finished at the last checkpoint of this run

    def before_train(self, runner) -> None:
        hub = runner.message_hub
        steps = hub.runtime_info.pop('keep_ckpt_ids', None) or []  # mmengine would remove files by these numbers
        super().before_train(runner)
        self._saved = None
        if runner._resume:
            self._find_own_files(runner, steps)
        if is_main_process() and os.path.isdir(self.out_dir):
            remove_unfinished(self.out_dir)

    def _find_own_files(self, runner, steps: list[int]) -> None:
        """Look in the run's folder for the files that the resumed state names; the first rank decides for all.

        Args:
            runner: Runner with the resumed state.
            steps: Numbers of the regular checkpoints to keep.
        """
        hub = runner.message_hub
        names = [name for name in hub.runtime_info if name.startswith('best_ckpt')]
        stored = {name: hub.runtime_info[name] for name in (*names, _INTERRUPTED) if hub.runtime_info.get(name)}
        found: list = [None]
        if is_main_process():
            is_own = not runner._load_from or self._is_own(runner._load_from)
            found = [{name: self._in_own_folder(path) if is_own else None for name, path in
                      {**stored, **{step: self.filename_tmpl.format(step) for step in steps}}.items()}]
        broadcast_object_list(found)
        for name in names:
            self._set_best(hub, name, found[0].get(name))
        self.best_ckpt_path = hub.runtime_info.get('best_ckpt')
        for key in getattr(self, 'best_ckpt_path_dict', ()):
            self.best_ckpt_path_dict[key] = hub.runtime_info.get(f'best_ckpt_{key}')
        hub.update_info(_INTERRUPTED, found[0].get(_INTERRUPTED))
        if self.max_keep_ckpts > 0:
            kept = [step for step in steps if found[0][step]]
            self.keep_ckpt_ids = deque(kept, self.max_keep_ckpts)
            hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
            for step in kept[:-self.max_keep_ckpts] if is_main_process() else ():
                self._remove(found[0][step])

    def _set_best(self, hub, name: str, path: str | None) -> None:
        """Store the path of the best checkpoint in this folder; without one, forget its score, too."""
        if path:
            hub.update_info(name, path)
            return
        stored = hub.runtime_info.pop(name)
        score = hub.runtime_info.pop(name.replace('best_ckpt', 'best_score'), None)
        if stored and is_main_process():
            print(f'note: the best checkpoint so far, {stored} ({score}), is not in {self.out_dir}: it is left as it '
                  'is, and the best one is determined again from here on', flush=True)

    def _in_own_folder(self, path: str) -> str | None:
        """Path of a file with this name in the run's folder, which may have been renamed; None if there is none."""
        here = self.file_backend.join_path(self.out_dir, os.path.basename(path))
        return here if self.file_backend.isfile(here) or self.file_backend.isdir(here) else None

    def _is_own(self, path: str) -> bool:
        folder, own = os.path.dirname(path.rstrip('/')), str(self.out_dir).rstrip('/')
        return folder == own if '://' in path else os.path.realpath(folder) == os.path.realpath(own)

    def _remove(self, path: str) -> None:
        if not self._is_own(path):
            return
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):  # sharded checkpoints
            self.file_backend.rmtree(path)

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
                self._remove(path)
        restart_timer(runner)

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
            save_atomically(Path(runner.work_dir) / 'last_checkpoint', lambda file: file.write(note))
        self._saved = meta['iter']

    def _save_best_checkpoint(self, runner, metrics) -> None:
        if self.save_best and 'auto' in self.key_indicators:
            metric = next(iter(metrics))
            try:
                self._init_rule(self.rules, [metric])
            except ValueError:  # mmengine would end the training here
                runner.logger.warning(f"save_best='auto': the name {metric} does not say whether a higher value is "
                                      'better, so the best checkpoint is not kept; set default_hooks.checkpoint.rule '
                                      "to 'greater' or 'less'")
                self.save_best = None
        with self._removing_later():
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _removing_later(self):
        backend, self.file_backend = self.file_backend, _RemovesLater(self.file_backend)
        try:
            yield
            outdated = self.file_backend.outdated
        finally:
            self.file_backend = backend
        kept = {getattr(self, 'best_ckpt_path', None), *getattr(self, 'best_ckpt_path_dict', {}).values()}
        for path in outdated:
            if path not in kept:
                self._remove(path)


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


@HOOKS.register_module()
class ResumeStateHook(Hook):
    """Save and resume the position within the epoch, and gradients that are accumulated but not yet applied.

    A warning says that the training data has changed since the checkpoint. The tools add the hook. Accumulated
    gradients of several ranks are averaged when a checkpoint is saved, as the next synchronized step would do.
    """

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self._collected: dict[str, torch.Tensor] | None = None  # for the checkpoint that is about to be saved
        self._gradients: dict[str, torch.Tensor] | None = None  # from the checkpoint that was loaded
        self._data: dict[str, Any] | None = None  # fingerprint of the training data, on the first rank

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
                if isinstance(parameter, DTensor):  # averaged by each backward pass
                    self._collected[name] = gather(parameter.grad)
                    continue
                all_reduce(parameter.grad, 'mean')
                self._collected[name] = parameter.grad.cpu()

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        if 'optimizer' not in checkpoint:
            return
        if hasattr(runner.train_loop, 'state_dict'):
            checkpoint['position'] = runner.train_loop.state_dict()
        if self._data is not None:
            checkpoint['meta']['training_data'] = self._data
        if self._collected:
            checkpoint['gradients'], self._collected = self._collected, None

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        if not runner._resume:
            return
        _check_optimizer(runner, checkpoint)
        _use_trained_weights(runner, checkpoint)
        meta = checkpoint['meta']
        if 'position' in checkpoint and hasattr(runner.train_loop, 'load_state_dict'):
            runner.train_loop.load_state_dict(checkpoint['position'], meta['epoch'], meta['iter'])
        self._gradients = checkpoint.get('gradients')
        self._compare_data(runner, meta.get('training_data'))

    def _compare_data(self, runner, before: dict[str, Any] | None) -> None:
        if before is not None and is_main_process():
            self._data = fingerprint(runner.cfg, runner.train_loop.dataloader.dataset)
            if change := describe_change(before, self._data):
                runner.logger.warning(f'--resume: the training data changed since the checkpoint: {change}; it '
                                      'continues, but not as without the interruption')
            if change := describe_batch_change(before, self._data):
                runner.logger.warning(f'--resume: {change}; the learning rate is that of the config, which '
                                      '--auto-scale-lr adapts')

    def before_train(self, runner) -> None:
        if self._data is None and is_main_process():
            self._data = fingerprint(runner.cfg, runner.train_loop.dataloader.dataset)
        gradients, self._gradients = self._gradients, None
        for name, parameter in runner.model.named_parameters() if gradients else ():
            if name in gradients:
                parameter.grad = like(gradients[name], parameter).to(parameter.device)


def _use_trained_weights(runner, checkpoint: dict) -> None:
    """Continue from the trained weights of a checkpoint with averaged ones, if this run does not average."""
    averaged = checkpoint.get('ema_state_dict')
    if not averaged or any(isinstance(hook, EMAHook) for hook in runner.hooks):
        return
    weights = checkpoint['state_dict']
    weights.update({name: averaged[f'module.{name}'] for name in weights if f'module.{name}' in averaged})
    runner.logger.warning('--resume: the checkpoint has averaged weights, but this run has no EMAHook; it continues '
                          'from the weights that were trained, without averages')


def _check_optimizer(runner, checkpoint: dict) -> None:
    """Check that the saved state belongs to an optimizer of this kind with these parameter groups.

    Raises:
        UserError: It does not; torch would fail at the first step, or load it in part.
    """
    wrapper, state = runner.optim_wrapper, checkpoint.get('optimizer')
    if not isinstance(wrapper, OptimWrapper) or not isinstance(state, dict) or 'param_groups' not in state:
        return
    groups, saved = wrapper.optimizer.param_groups, state['param_groups']
    missing = sorted({key for group in groups[:1] for key in group} - {key for group in saved[:1] for key in group})
    kind = type(wrapper.optimizer).__name__
    if missing:
        what = f'is not that of {kind}: {", ".join(missing)} are missing'
    elif [len(group['params']) for group in groups] != [len(group['params']) for group in saved]:
        what = f'has other parameter groups ({len(saved)}) than the config ({len(groups)})'
    else:
        return
    raise UserError(f'--resume: the optimizer state in {runner._load_from} {what}; use the optim_wrapper of that run, '
                    'or start from its weights with --load-from')


def _is_accumulating(runner) -> bool:
    wrapper = runner.optim_wrapper
    every = getattr(wrapper, '_accumulative_counts', 1)
    return every > 1 and not wrapper.should_update() and torch.is_grad_enabled()
