#!/usr/bin/env python
"""The demo, start to end: write the demo set, train a small model on it, evaluate, draw (`make demo`).

``make demo ARGS=configs/FAMILY/CONFIG.py`` does the same with another config for the demo set.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from _cli import ROOT, run, use_checkout

DATA = Path('data/demo')
KINDS = {'box': 'coco/bbox_mAP_50', 'mask': 'coco/segm_mAP_50'}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', nargs='?', default='configs/vitdet_demo.py',
                        help='a config for the demo set (default: %(default)s)')
    parser.add_argument('--ranks', type=int, default=min(2, os.cpu_count() or 1),
                        help='processes that train together, one thread each (default: %(default)s)')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    use_checkout()
    os.chdir(ROOT)
    return run(lambda: demo(args.config, args.ranks))


def demo(config: str, ranks: int) -> None:
    from vitdet_plugin.config.loading import load_config
    from vitdet_plugin.errors import UserError
    cfg = load_config(config)
    if 'batch_size' not in (cfg.get('train_dataloader') or {}):
        raise UserError(f'{config} has no train_dataloader.batch_size; is it a config for the demo set?')
    batch, work = cfg.train_dataloader.batch_size, Path('work_dirs') / Path(config).stem
    if batch % ranks:
        raise UserError(f'{config}: train_dataloader.batch_size={batch} does not divide by {ranks} ranks; give --ranks')
    start = time.monotonic()
    if not (DATA / 'annotations' / 'val.json').is_file():
        call('tools/dataset/make_demo_set.py', '--out', DATA)
    # one thread a rank: the per-image work of a detector is Python, which threads do not share
    os.environ['OMP_NUM_THREADS'] = '1'
    options = ['--no-validate', '--work-dir', work,  # the evaluation follows
                '--cfg-options', f'train_dataloader.batch_size={batch // ranks}']
    if cfg.get('bf16_pays', True) and has_bf16_units():
        options = ['--amp', 'bf16', *options]
    launch = ['-m', 'torch.distributed.run', '--standalone', f'--nproc-per-node={ranks}'] if ranks > 1 else []
    written = time.monotonic()
    call(*launch, 'tools/train.py', config, '--launcher', 'pytorch' if ranks > 1 else 'none', *options)
    trained = time.monotonic()
    checkpoint = work / (work / 'last_checkpoint').read_text().strip().rsplit('/', 1)[-1]
    pictures, metrics_file = work / 'pictures', work / 'metrics.json'
    call('tools/test.py', config, checkpoint, '--show-dir', pictures, '--work-dir', work / 'test')
    newest = max((work / 'test').glob('*/*.json'), key=lambda path: path.stat().st_mtime)
    metrics = json.loads(newest.read_text().splitlines()[-1])
    metrics_file.write_text(json.dumps(metrics, indent=1))

    from vitdet_plugin.visualization.curves import plot_curves
    scalars = max(work.glob('*/vis_data/scalars.json'), key=lambda path: path.stat().st_mtime)
    curve = plot_curves(scalars, work / 'curves.png', f'{work.name} on the demo set')
    print(f'trained in {(trained - written) / 60:.1f} minutes, all in {(time.monotonic() - start) / 60:.1f}')
    print(f'checkpoint: {checkpoint}\npictures, prediction beside ground truth: {pictures}\ncurves: {curve}')
    scores = [f'{name} AP50={metrics[key]:.2f}' for name, key in KINDS.items() if key in metrics]
    print(f'demo: {" ".join(scores)}')


def has_bf16_units() -> bool:
    """Whether bfloat16 is faster than float32 on this processor; without such units it is slower."""
    import torch
    capabilities = getattr(torch.cpu, 'get_capabilities', dict)()
    return bool(capabilities.get('avx512_bf16') or capabilities.get('amx_bf16'))


def call(*words) -> None:
    """Run a tool with this interpreter; a failed one has said why, so its status ends the demo."""
    status = subprocess.run([sys.executable, *map(str, words)]).returncode
    if status:
        sys.exit(status)


if __name__ == '__main__':
    sys.exit(main())
