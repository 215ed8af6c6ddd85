"""Training: apply the options, check the config, train, and evaluate at the end."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import Runner

from vitdet_plugin.config.explain import user_errors
from vitdet_plugin.engine.guards import Stopped
from vitdet_plugin.engine.preflight import preflight
from vitdet_plugin.engine.resume import apply_resume
from vitdet_plugin.engine.session import SessionOptions, build_runner, config_name, finish, load_session_config
from vitdet_plugin.engine.test import set_metrics
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.kept_files import keep_files
from vitdet_plugin.utils.paths import check_output_path


@dataclass(kw_only=True)
class TrainOptions(SessionOptions):
    """Options of a training run; see :func:`vitdet_plugin.api.train`."""

    resume: bool | str | Path = False
    load_from: str | Path | None = None
    weights: str | Path | None = None
    amp: bool | str | None = None
    seed: int | None = None
    deterministic: bool = False
    auto_scale_lr: bool = False
    validate: bool = True
    eval: Sequence[str] | None = None


@keep_files()
def train(config: str | Path | Config, options: TrainOptions) -> Runner:
    """Train a model and return the runner.

    Raises:
        UserError: Anything that the user can fix, in one line.
    """
    cfg = load_session_config(config, options)
    check_output_path('--work-dir', cfg.work_dir, is_folder=True)
    resumed = apply_train_options(cfg, options)
    with user_errors(cfg):
        if not options.skip_preflight:
            splits = [split for split in ('train', 'val') if cfg.get(f'{split}_dataloader') is not None or
                      split == 'train']
            preflight(cfg, splits + (['test'] if options.eval is not None else []), resume=resumed)
        runner = build_runner(cfg)
        if is_main_process():
            name = Path(cfg.filename).name if cfg.filename else config_name(cfg)
            print(f'training {name}: logs and checkpoints in {runner.work_dir}', flush=True)
        try:
            runner.train()
        except Stopped as stopped:
            if is_main_process():
                print(stopped, flush=True)
            finish()
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
        cfg.load_from = str(options.load_from)
    if options.weights:
        use_weights(cfg, options)
    if options.amp:
        use_amp(cfg, 'auto' if options.amp is True else options.amp)
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
    if not options.validate:
        cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    if options.eval is not None:
        if cfg.get('test_dataloader') is None:
            raise UserError(f'--eval: {cfg.filename} has no test_dataloader; add it or omit --eval')
        set_metrics(cfg, options.eval)
    return apply_resume(cfg, 'auto' if options.resume is True else str(options.resume) if options.resume else None)


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


def use_amp(cfg: Config, dtype: str) -> None:
    """Enable autocast in the config's optimizer wrapper; constructor, groups and gradient clipping are kept.

    Args:
        cfg: Changed in place.
        dtype: ``fp16``, ``bf16``, or ``auto``: fp16 on a GPU, bf16 on a CPU and with a strategy.
    """
    import torch
    if dtype == 'auto':
        dtype = 'fp16' if torch.cuda.is_available() and cfg.get('strategy') is None else 'bf16'
    wrapper = cfg.get('optim_wrapper')
    if wrapper is None:
        raise UserError(f'--amp: {cfg.filename} has no optim_wrapper; add one')
    if dtype not in ('fp16', 'bf16'):
        raise UserError(f'--amp {dtype}: choose from auto, fp16, bf16')
    kind = wrapper.get('type', 'OptimWrapper')
    if kind not in ('OptimWrapper', 'AmpOptimWrapper', 'AutocastOptimWrapper'):
        raise UserError(f'--amp: optim_wrapper.type={kind} cannot be replaced; configure mixed precision in it')
    if dtype == 'fp16' and 'FSDP' in str((cfg.get('strategy') or {}).get('type')):
        # only the scaler of this wrapper combines the ranks
        wrapper.type, wrapper.dtype, wrapper.use_fsdp = 'AmpOptimWrapper', 'float16', True
        return
    wrapper.type = 'AutocastOptimWrapper'
    wrapper.dtype = dtype
    wrapper.pop('use_fsdp', None)


def evaluate_best(runner) -> None:
    """Evaluate on the test split with the best checkpoint if one was saved, otherwise with the current weights."""
    best = runner.message_hub.runtime_info.get('best_ckpt')
    if best and os.path.isfile(best):
        if is_main_process():
            print(f'evaluating {best}', flush=True)
        runner.load_checkpoint(best)
    runner.test()
