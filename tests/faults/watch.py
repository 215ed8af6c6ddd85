"""Hooks for the configs of these tests, which import this module with ``custom_imports``."""

import json
import os
import random
import signal
import time

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from vitdet_plugin.utils.stop_signals import stop_signals


@HOOKS.register_module()
class WatchHook(Hook):
    """Append (step, exact loss, images, next random numbers) of every step to ``<work dir>/watch_rank<r>.jsonl``."""

    priority = 'HIGHEST'

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        images = [os.path.basename(sample.img_path) for sample in data_batch['data_samples']]
        pixels = int(sum(image.long().sum() for image in data_batch['inputs']))
        state = random.getstate(), np.random.get_state(), torch.get_rng_state()
        draws = [random.random(), float(np.random.rand()), float(torch.rand(()))]
        random.setstate(state[0]), np.random.set_state(state[1]), torch.set_rng_state(state[2])
        with open(os.path.join(runner.work_dir, f'watch_rank{runner.rank}.jsonl'), 'a') as file:
            file.write(json.dumps([runner.iter, batch_idx, outputs['loss'].item().hex(), images, pixels, draws]) + '\n')


@HOOKS.register_module()
class SignalHook(Hook):
    """Send the signal ``number`` to this process on one rank after step ``step``, once per work directory."""

    priority = 'HIGHEST'

    def __init__(self, step, number=signal.SIGTERM, rank=0):
        self.step, self.number, self.on_rank = step, number, rank

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        mark = os.path.join(runner.work_dir, 'signalled')
        if runner.iter + 1 == self.step and runner.rank == self.on_rank and not os.path.exists(mark):
            open(mark, 'w').close()
            os.kill(os.getpid(), self.number)


@HOOKS.register_module()
class PoisonHook(Hook):
    """Make the images of step ``step`` NaN on one rank."""

    def __init__(self, step, rank=0):
        self.step, self.on_rank = step, rank

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.step and runner.rank == self.on_rank:
            data_batch['inputs'] = [image.float() * float('nan') for image in data_batch['inputs']]


@HOOKS.register_module()
class BallastHook(Hook):
    """Make checkpoints larger, so that saving is slow."""

    def __init__(self, megabytes):
        self.ballast = torch.zeros(megabytes << 18)

    def before_save_checkpoint(self, runner, checkpoint):
        checkpoint['ballast'] = self.ballast


@HOOKS.register_module()
class ValidationSignalHook(Hook):
    """Send the signal ``number`` to this process on one rank during a validation, and count validation batches.

    Args:
        step: Number of finished training steps at that validation.
        batch: Number of the batch after which the signal is sent; None: when the metrics were computed.
    """

    priority = 'HIGHEST'

    def __init__(self, step, batch, number=signal.SIGTERM, rank=0):
        self.step, self.batch, self.number, self.on_rank = step, batch, number, rank

    def _signal(self, runner):
        mark = os.path.join(runner.work_dir, 'signalled')
        if runner.iter == self.step and runner.rank == self.on_rank and not os.path.exists(mark):
            open(mark, 'w').close()
            os.kill(os.getpid(), self.number)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        with open(os.path.join(runner.work_dir, f'val_rank{runner.rank}.txt'), 'a') as file:
            file.write(f'{runner.iter} {batch_idx}\n')
        if batch_idx == self.batch:
            self._signal(runner)

    def after_val_epoch(self, runner, metrics=None):
        if self.batch is None:
            self._signal(runner)


@HOOKS.register_module()
class EarlySignalHook(Hook):
    """Send the signal ``number`` to this process before the first step."""

    def __init__(self, number):
        self.number = number

    def before_train_epoch(self, runner):
        os.kill(os.getpid(), self.number)


@HOOKS.register_module()
class AgentSignalHook(Hook):
    """Send SIGTERM to the torchrun agent of one rank after step ``step``, and wait until it has passed it on."""

    priority = 'HIGHEST'

    def __init__(self, step, rank):
        self.step, self.on_rank = step, rank

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.step and runner.rank == self.on_rank:
            os.kill(os.getppid(), signal.SIGTERM)
            with stop_signals() as signals:
                while signals.received is None:
                    time.sleep(0.01)
