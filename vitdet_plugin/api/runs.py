"""Functions that perform a whole run: ``train`` and ``test``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from vitdet_plugin.checkpoints.work_dirs import list_checkpoints
from vitdet_plugin.engine.process_state import restored_process_state
from vitdet_plugin.engine.test import TestOptions
from vitdet_plugin.engine.test import test as run_test
from vitdet_plugin.engine.train import TrainOptions
from vitdet_plugin.engine.train import train as run_training


@dataclass(frozen=True)
class TrainResult:
    """Result of a training run.

    Attributes:
        work_dir: Folder of the logs and checkpoints.
        last_checkpoint: The newest checkpoint; None if none was saved.
        best_checkpoint: The checkpoint with the best validation metric; None if none was kept.
        metrics: Metrics of the last evaluation: on the test split if ``eval`` was given, otherwise on the validation
            split; empty without validation.
    """

    work_dir: Path
    last_checkpoint: Path | None
    best_checkpoint: Path | None
    metrics: dict[str, float]


def train(config: str | Path | Config, *, work_dir: str | Path | None = None, resume: bool | str | Path = False,
          load_from: str | Path | None = None, weights: str | Path | None = None, amp: bool | str | None = None,
          compile: bool | str | None = None,
          seed: int | None = None, deterministic: bool = False, auto_scale_lr: bool = False, validate: bool = True,
          val_loss: bool = False, patience: int | None = None, balance_classes: float | None = None,
          background: str | None = None, eval: str | Sequence[str] | None = None,
          cfg_options: Mapping[str, Any] | Sequence[str] = (), launcher: str | None = None,
          local_rank: int | None = None, skip_preflight: bool = False) -> TrainResult:
    """Train a detector or classifier. The options are those of ``vitdet train``.

    Args:
        config: Config file, name of a shipped config (``vitdet_demo``), ``PACKAGE::CONFIG``, or a loaded config, which
            is copied. Configs are programs: use only configs that you trust.
        work_dir: Folder for logs and checkpoints; by default ``work_dir`` of the config, or else
            ``work_dirs/<name of the config>``.
        resume: A checkpoint to continue from; True for the newest one in the work directory.
        load_from: Weights to start from, in a format of this project or an official one: a file, a work directory (its
            best checkpoint), or a name of ``vitdet weights list``.
        weights: Weights to start the backbone from, instead of those of its ``init_cfg``: a name of ``vitdet weights
            list``, ``timm:MODEL``, or a file.
        amp: Mixed precision: ``'fp16'``, ``'bf16'``, or True for fp16 on a GPU. On a CPU bf16 is used if the processor
            has instructions for it, otherwise float32.
        compile: Whether to compile blocks of the backbone, neck and RPN for the training steps; or a backend of
            ``torch.compile``.
        seed: Seed of all random number generators.
        deterministic: Whether to use deterministic algorithms only.
        auto_scale_lr: Whether to scale the learning rate by batch size / ``auto_scale_lr.base_batch_size``.
        validate: Whether to evaluate during training.
        val_loss: Whether to compute the loss on the validation set too, as the metric ``val_loss``.
        patience: Stop after this number of evaluations in a row without an improvement.
        balance_classes: Draw images of rare classes more often, with this power (0 to 1) of their rarity; see
            ``ClassBalancedSampler``.
        background: ``'keep'`` or ``'drop'`` images without objects in the training set of a detector; by default as
            the config says.
        eval: Metrics to evaluate on the test split after training, with the best checkpoint or else the last; an empty
            list for those of the config.
        cfg_options: Changes to the config: a dictionary of dotted keys and values, or ``KEY=VALUE`` words.
        launcher: How the ranks were started: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``; by default pytorch
            under torchrun, otherwise none.
        local_rank: Number of this rank on its machine; by default from the environment.
        skip_preflight: Whether to skip the checks of data, classes, checkpoint and disk before the start.

    Returns:
        Work directory, checkpoints and metrics.

    Raises:
        UserError: Anything that the user can fix, in one line that names file, key or value.
    """
    options = {**locals(), 'eval': _names(eval)}
    with restored_process_state():
        return _result(run_training(options.pop('config'), TrainOptions(**options)))


def test(config: str | Path | Config, checkpoint: str | Path, *, work_dir: str | Path | None = None,
         eval: str | Sequence[str] | None = None, out: str | Path | None = None, out_item: str | None = None,
         format_only: bool = False, show_dir: str | Path | None = None, show_score_thr: float = 0.3,
         show_max: int = 50, tta: bool = False, cfg_options: Mapping[str, Any] | Sequence[str] = (),
         launcher: str | None = None, local_rank: int | None = None, skip_preflight: bool = False,
         half: str | bool | None = None, dtype: str | None = None) -> dict[str, Any]:
    """Evaluate a checkpoint on the test split of a config. The options are those of ``vitdet test``.

    Args:
        config: As for :func:`train`.
        checkpoint: A file in a format of this project or an official one, a name of ``vitdet weights list``, or a work
            directory, whose best checkpoint (or else the newest) is used.
        work_dir: Folder for logs; the same default as in :func:`train`.
        eval: Metrics instead of those of the config: ``'bbox'``, ``'segm'``, or for a classifier ``'accuracy'``,
            ``'f1-score'``, ….
        out: File for the predictions: ``.pkl`` (in the format of mmengine), ``.json`` (COCO results; for a classifier
            all scores) or ``.csv`` (classifiers).
        out_item: What ``out`` receives: ``'pred'`` (default), or ``'metrics'`` as ``.json``, ``.yaml`` or ``.pkl``.
        format_only: Whether to write COCO result files without computing metrics, for test servers.
        show_dir: Folder for images of predictions next to ground truth.
        show_score_thr: Lowest score that is drawn.
        show_max: At most this many images, evenly spaced over the split; 0 means all.
        tta: Whether to use test-time augmentation by horizontal flips.
        cfg_options: As for :func:`train`.
        launcher: As for :func:`train`.
        local_rank: As for :func:`train`.
        skip_preflight: As for :func:`train`.
        half, dtype: Type to predict in, as for :meth:`vitdet_plugin.api.Inferencer.load`.

    Returns:
        Name and value of every metric; empty with ``format_only``.

    Raises:
        UserError: Anything that the user can fix, in one line that names file, key or value.
    """
    options = {**locals(), 'eval': _names(eval)}
    with restored_process_state():
        return run_test(options.pop('config'), options.pop('checkpoint'), TestOptions(**options))


test.__test__ = False  # type: ignore[attr-defined]  # not a pytest test


def _names(metrics: str | Sequence[str] | None) -> Sequence[str] | None:
    return [metrics] if isinstance(metrics, str) else metrics


def _result(runner: Runner) -> TrainResult:
    scalars = runner.message_hub.log_scalars
    split = 'test/' if any(name.startswith('test/') for name in scalars) else 'val/'
    metrics = {name.removeprefix(split): float(scalars[name].current()) for name in scalars if name.startswith(split)
               and not name.endswith(('/time', '/data_time'))}
    last = next(iter(list_checkpoints(runner.work_dir)), None)  # was verified when it was saved
    best = runner.message_hub.runtime_info.get('best_ckpt')
    return TrainResult(Path(runner.work_dir), last, Path(best) if best else None, metrics)
