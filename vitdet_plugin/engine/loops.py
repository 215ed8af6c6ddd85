"""Training loops of mmengine that can be resumed exactly, also in the middle of an epoch."""

import logging

from mmengine.logging import print_log
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from vitdet_plugin.config.train_length import counts_epochs
from vitdet_plugin.engine.check_loaders import no_batches
from vitdet_plugin.engine.data_order import CountedBatches, make_resumable, seed_step
from vitdet_plugin.errors import UserError


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """``EpochBasedTrainLoop`` that saves and resumes its position within the epoch.

    The train command replaces ``EpochBasedTrainLoop`` by this class; the arguments are the same.
    """

    def __init__(self, runner, dataloader, *args, **kwargs):
        super().__init__(runner, dataloader, *args, **kwargs)
        self._batches = make_resumable(self.dataloader, runner.seed, runner.rank)
        self._epoch_begin = 0
        self._done: int | None = None  # batches of the current epoch finished before this run

    def run_epoch(self) -> None:
        """Run one epoch, or the rest of it after resuming."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        done = self._batches_done()
        self._epoch_begin = self._iter - done
        if self._batches is not None:
            self._batches.next_batch = self._iter
            self._batches.skip(done)
        elif done:
            _warn_inexact()
        index = done - 1
        for index, batch in enumerate(self.dataloader, done):
            self.run_iter(index, batch)
        if index < 0:
            raise _no_batches(self.dataloader)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
        self._epoch_begin = self._iter  # for a checkpoint during the validation

    def run_iter(self, idx, data_batch) -> None:
        """Seed the generators for this step and run it."""
        seed_step(self.runner.seed, self.runner.rank, self._iter)
        super().run_iter(idx, data_batch)

    def state_dict(self) -> dict[str, int]:
        """Return the position within the epoch."""
        return dict(epoch=self._epoch, epoch_begin=self._epoch_begin, batches_per_epoch=len(self.dataloader))

    def load_state_dict(self, state: dict[str, int], epoch: int, iteration: int) -> None:
        """Restore the position within the epoch.

        Args:
            state: A state returned by :meth:`state_dict`.
            epoch: Number of finished epochs.
            iteration: Number of finished steps.
        """
        done = iteration - state['epoch_begin'] if epoch == state['epoch'] else 0
        then, now = state['batches_per_epoch'], len(self.dataloader)
        if done and then != now:
            print_log(f'the epoch had {then} batches and now has {now} (changed ranks, batch size or data): resuming '
                      'at the same fraction of the epoch, with different batches', 'current', logging.WARNING)
            done = round(done * now / then)
        self._done = done
        if then != now and iteration:
            self.resumed_scale = (epoch * now + done) / iteration

    def _batches_done(self) -> int:
        done, self._done = self._done, 0
        if done is None:  # a new run, or a checkpoint of mmengine's own loop
            done = self._iter - self._epoch * len(self.dataloader)
        return done if 0 <= done <= len(self.dataloader) else 0


@LOOPS.register_module()
class ResumableIterLoop(IterBasedTrainLoop):
    """``IterBasedTrainLoop`` that resumes with the same data as an uninterrupted run.

    The train command replaces ``IterBasedTrainLoop`` by this class; the arguments are the same.
    """

    def __init__(self, runner, dataloader, *args, **kwargs):
        super().__init__(runner, dataloader, *args, **kwargs)
        batches = make_resumable(self.dataloader, runner.seed, runner.rank)
        if batches is not None:
            self.dataloader_iterator = _EndlessBatches(self.dataloader, batches)

    def run_iter(self, data_batch) -> None:
        """Seed the generators for this step and run it."""
        seed_step(self.runner.seed, self.runner.rank, self._iter)
        super().run_iter(data_batch)


class _EndlessBatches:
    """An endless iterator over a loader that can skip batches of any sampler without loading them."""

    def __init__(self, loader, batches: CountedBatches):
        self._loader, self._batches = loader, batches
        self._pass = 0
        self._iterator = None

    def __iter__(self):
        return self

    def __next__(self):
        if self._iterator is None:
            self._iterator = iter(self._loader)
        try:
            return next(self._iterator)
        except StopIteration:
            self._next_pass()
            self._iterator = iter(self._loader)
            batch = next(self._iterator, None)
            if batch is None:
                raise _no_batches(self._loader) from None
            return batch

    def skip_iter(self, count: int) -> None:
        """Skip the first ``count`` batches; called at most once, before iteration starts."""
        left = count
        while (skipped := self._batches.skip(left)) < left:
            if not skipped:
                raise _no_batches(self._loader)
            left -= skipped
            self._next_pass()
        self._batches.next_batch = count

    def _next_pass(self) -> None:
        self._pass += 1
        for sampler in (self._loader.sampler, getattr(self._batches.batches, 'sampler', None)):
            if hasattr(sampler, 'set_epoch'):
                sampler.set_epoch(self._pass)
                return


def resumable_loop(cfg: dict) -> dict:
    """Return ``train_cfg`` with mmengine's loop type replaced by the resumable one; other types are kept."""
    cfg, by_epoch = dict(cfg), counts_epochs(cfg)
    cfg.pop('by_epoch', None)
    if by_epoch is not None:
        cfg['type'] = ResumableEpochLoop if by_epoch else ResumableIterLoop
    return cfg


def _no_batches(loader) -> UserError:
    batches = loader.batch_sampler
    return no_batches('train_dataloader', len(loader.dataset), getattr(batches, 'batch_size', None),
                      getattr(batches, 'drop_last', False))


def _warn_inexact() -> None:
    print_log('the batches of this dataset or loader cannot be numbered: resuming from the first batch of the epoch',
              'current', logging.WARNING)
