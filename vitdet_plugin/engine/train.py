"""Training: apply the options, check the config, train, and evaluate at the end."""

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import Runner

from vitdet_plugin.checkpoints.sharded import is_sharded
from vitdet_plugin.compat.torchrun_agents import release_agents
from vitdet_plugin.config.explain import user_errors
from vitdet_plugin.engine.check_ranks import check_same_settings
from vitdet_plugin.engine.check_schedule import drop_idle_schedulers
from vitdet_plugin.engine.compiling import apply_compile
from vitdet_plugin.engine.data_workers import ended_data_workers
from vitdet_plugin.engine.gpu_defaults import apply_gpu_defaults
from vitdet_plugin.engine.inference import find_checkpoint
from vitdet_plugin.engine.initial_weights import drop_replaced_weights
from vitdet_plugin.engine.precision import apply_precision, training_device
from vitdet_plugin.engine.preflight import preflight
from vitdet_plugin.engine.process_state import finish
from vitdet_plugin.engine.resume import apply_resume
from vitdet_plugin.engine.runners import build_runner
from vitdet_plugin.engine.session import SessionOptions, config_name, load_session_config
from vitdet_plugin.engine.stopping import Stopped
from vitdet_plugin.engine.test import set_metrics
from vitdet_plugin.engine.train_choices import add_hooks, select_images
from vitdet_plugin.engine.work_dir_lock import locked_work_dir
from vitdet_plugin.errors import Interrupted, UserError
from vitdet_plugin.utils.kept_files import keep_files
from vitdet_plugin.utils.paths import check_output_path
from vitdet_plugin.utils.stop_signals import stop_signals


@dataclass(kw_only=True)
class TrainOptions(SessionOptions):
    """Options of a training run; see :func:`vitdet_plugin.api.train`."""

    resume: bool | str | Path = False
    load_from: str | Path | None = None
    weights: str | Path | None = None
    amp: bool | str | None = None
    compile: bool | str | None = None
    seed: int | None = None
    deterministic: bool = False
    auto_scale_lr: bool = False
    validate: bool = True
    val_loss: bool = False
    patience: int | None = None
    balance_classes: float | None = None
    background: str | None = None
    eval: Sequence[str] | None = None


def train(config: str | Path | Config, options: TrainOptions) -> Runner:
    """Train a model and return the runner; after SIGTERM, when the state of the last step is saved.

    Raises:
        UserError: Anything that the user can fix, in one line.
        Interrupted: After Ctrl-C, when the state is saved; on both signals before the first step, or after training.
    """
    with stop_signals() as signals:
        signals.situation = ' before the first iteration; nothing was saved'
        return _train(config, options)


@keep_files()
def _train(config: str | Path | Config, options: TrainOptions) -> Runner:
    cfg = load_session_config(config, options)
    check_output_path('--work-dir', cfg.work_dir, is_folder=True)
    resumed = apply_train_options(cfg, options)
    with user_errors(cfg):
        check_same_settings(cfg)
        if not options.skip_preflight:
            splits = [split for split in ('train', 'val') if cfg.get(f'{split}_dataloader') is not None or
                      split == 'train']
            preflight(cfg, splits + (['test'] if options.eval is not None else []), resume=resumed)
        faster = apply_gpu_defaults(cfg, training_device())
        with locked_work_dir(cfg.work_dir):
            return _run(cfg, options, faster)


def _run(cfg: Config, options: TrainOptions, faster: Sequence[str]) -> Runner:
    """Train and evaluate with a complete config; ``faster`` are its settings for the GPU."""
    runner = build_runner(cfg)
    if faster:
        runner.logger.info(f'for the GPU: {", ".join(faster)}')
    if is_main_process():
        name = Path(cfg.filename).name if cfg.filename else config_name(cfg)
        print(f'training {name}: logs and checkpoints in {runner.work_dir}', flush=True)
    with ended_data_workers(runner):
        try:
            runner.train()
        except Stopped as stopped:
            is_first = is_main_process()
            finish()
            if is_first:
                release_agents()
            if stopped.number == signal.SIGINT:
                raise Interrupted(str(stopped)) from None
            if is_first:
                print(stopped, flush=True)
            return runner
        if options.eval is not None:
            evaluate_best(runner)
    finish()
    return runner


def apply_train_options(cfg: Config, options: TrainOptions) -> str | None:
    """Write the options into ``cfg``; returns the checkpoint to resume from, if any.

    Raises:
        UserError: ``auto_scale_lr`` without a base batch size, a missing checkpoint, an unknown metric.
    """
    if options.load_from:
        is_run = Path(options.load_from).is_dir() and not is_sharded(str(options.load_from))
        cfg.load_from = str(find_checkpoint(options.load_from) if is_run else options.load_from)
    if options.weights:
        use_weights(cfg, options)
    drop_idle_schedulers(cfg)
    apply_precision(cfg, 'auto' if options.amp is True else options.amp or None)
    apply_compile(cfg, options.compile)
    if options.auto_scale_lr:
        if not (cfg.get('auto_scale_lr') or {}).get('base_batch_size'):
            raise UserError(f'--auto-scale-lr: {cfg.filename} does not state the batch size for its learning '
                            'rate; add auto_scale_lr=dict(base_batch_size=64)')
        cfg.auto_scale_lr.enable = True
    if options.seed is not None or options.deterministic:
        randomness = dict(cfg.get('randomness') or {})
        if options.seed is not None:
            randomness['seed'] = options.seed
        if options.deterministic:
            randomness['deterministic'] = True
            os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
        randomness.setdefault('seed', None)
        cfg.randomness = randomness
    add_hooks(cfg, options.val_loss, options.patience, options.validate)
    select_images(cfg, options.balance_classes, options.background)
    if not options.validate:
        cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    if options.eval is not None:
        if cfg.get('test_dataloader') is None:
            raise UserError(f'--eval: {cfg.filename} has no test_dataloader; add it or omit --eval')
        set_metrics(cfg, options.eval)
    resume = options.resume
    if not resume and cfg.get('resume'):  # as in mmengine: from load_from, or else from the work directory
        resume = cfg.get('load_from') or True
    resumed = apply_resume(cfg, 'auto' if resume is True else str(resume) if resume else None)
    if resumed is None and (dropped := drop_replaced_weights(cfg)) and is_main_process():
        print(f'{dropped} is not downloaded: {cfg.load_from} has all weights of the backbone', flush=True)
    return resumed


def use_weights(cfg: Config, options: TrainOptions) -> None:
    """Let the backbone start from ``options.weights``, in place of its ``init_cfg`` and of the config's ``load_from``.

    Raises:
        UserError: A model without a backbone, or ``load_from`` in the options too, which would replace these weights.
    """
    if options.load_from:
        raise UserError('--weights and --load-from both say what the backbone starts from; give one of them')
    backbone = (cfg.get('model') or {}).get('backbone')
    if not isinstance(backbone, dict):
        raise UserError(f'{cfg.filename} has no model.backbone for --weights; use --load-from FILE for the whole model')
    backbone.init_cfg = dict(type='Pretrained', checkpoint=str(options.weights))
    if cfg.get('load_from'):
        if is_main_process():
            print(f"--weights {options.weights} replaces the config's load_from={cfg.load_from}", flush=True)
        cfg.load_from = None


def evaluate_best(runner) -> None:
    """Evaluate on the test split with the best checkpoint if one was saved, otherwise with the current weights."""
    best = runner.message_hub.runtime_info.get('best_ckpt')
    if best and os.path.isfile(best):
        if is_main_process():
            print(f'evaluating {best}', flush=True)
        runner.load_checkpoint(best)
    runner.test()
