"""``tools/train.py``: command-line arguments into the config, pre-flight, run, evaluation at the end."""

import os
from argparse import Namespace
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process

from vitdet_plugin.config.explain import user_errors
from vitdet_plugin.engine.guards import Stopped
from vitdet_plugin.engine.preflight import preflight
from vitdet_plugin.engine.resume import apply_resume
from vitdet_plugin.engine.session import build_runner, finish, load_session_config
from vitdet_plugin.engine.test import set_metrics
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.kept_files import keep_files
from vitdet_plugin.utils.paths import check_output_path


@keep_files()
def train(args: Namespace):
    """Train as ``tools/train.py`` is asked to; returns the runner.

    Raises:
        UserError: Anything that the user can mend, in one line.
    """
    cfg = load_session_config(args)
    check_output_path('--work-dir', cfg.work_dir, is_folder=True)
    resumed = apply_train_arguments(cfg, args)
    with user_errors(cfg):
        if not args.skip_preflight:
            splits = [split for split in ('train', 'val') if cfg.get(f'{split}_dataloader') is not None or
                      split == 'train']
            preflight(cfg, splits + (['test'] if args.eval is not None else []), resume=resumed)
        runner = build_runner(cfg)
        if is_main_process():
            print(f'training {Path(args.config).name}: logs and checkpoints in {runner.work_dir}', flush=True)
        try:
            runner.train()
        except Stopped as stopped:
            if is_main_process():
                print(stopped, flush=True)
            finish()
            return runner
        if args.eval is not None:
            evaluate_best(runner)
    finish()
    return runner


def apply_train_arguments(cfg: Config, args: Namespace) -> str | None:
    """Write the arguments into ``cfg``; returns the checkpoint to resume from, if any.

    Raises:
        UserError: ``--auto-scale-lr`` without a base batch size, a missing checkpoint, an unknown metric.
    """
    if args.load_from:
        cfg.load_from = args.load_from
    if args.amp:
        use_amp(cfg, args.amp)
    if args.auto_scale_lr:
        if not (cfg.get('auto_scale_lr') or {}).get('base_batch_size'):
            raise UserError(f'--auto-scale-lr: {cfg.filename} does not say for which batch size its learning rate is '
                            'meant; add auto_scale_lr=dict(base_batch_size=64)')
        cfg.auto_scale_lr.enable = True
    if args.seed is not None or args.deterministic:
        randomness = dict(cfg.get('randomness') or {})
        if args.seed is not None:
            randomness['seed'] = args.seed
        if args.deterministic:
            randomness['deterministic'] = True
            os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
        randomness.setdefault('seed', None)
        cfg.randomness = randomness
    if args.no_validate:
        cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    if args.eval is not None:
        if cfg.get('test_dataloader') is None:
            raise UserError(f'--eval: {cfg.filename} has no test_dataloader')
        set_metrics(cfg, args.eval)
    return apply_resume(cfg, args.resume)


def use_amp(cfg: Config, dtype: str) -> None:
    """Put the config's optimiser wrapper under autocast; constructor, groups and gradient clipping stay.

    Args:
        cfg: Changed in place.
        dtype: ``fp16``, ``bf16``, or ``auto``: fp16 on a GPU, bf16 on a CPU and with a strategy.
    """
    import torch
    if dtype == 'auto':
        dtype = 'fp16' if torch.cuda.is_available() and cfg.get('strategy') is None else 'bf16'
    wrapper = cfg.get('optim_wrapper')
    if wrapper is None:
        raise UserError(f'--amp: {cfg.filename} has no optim_wrapper')
    kind = wrapper.get('type', 'OptimWrapper')
    if kind not in ('OptimWrapper', 'AmpOptimWrapper', 'AutocastOptimWrapper'):
        raise UserError(f'--amp: optim_wrapper.type={kind} cannot be replaced; set its own mixed precision')
    if dtype == 'fp16' and 'FSDP' in str((cfg.get('strategy') or {}).get('type')):
        wrapper.type, wrapper.dtype, wrapper.use_fsdp = 'AmpOptimWrapper', 'float16', True  # its scaler asks all ranks
        return
    wrapper.type = 'AutocastOptimWrapper'
    wrapper.dtype = dtype
    wrapper.pop('use_fsdp', None)


def evaluate_best(runner) -> None:
    """Evaluate on the test split with the best checkpoint if one was kept, otherwise with the weights as they are."""
    best = runner.message_hub.runtime_info.get('best_ckpt')
    if best and os.path.isfile(best):
        if is_main_process():
            print(f'evaluating {best}', flush=True)
        runner.load_checkpoint(best)
    runner.test()
