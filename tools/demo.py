#!/usr/bin/env python
"""The demo, start to end: write the demo set, train a small ViTDet on it, evaluate, draw (`make demo`)."""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from _cli import ROOT, run, use_checkout

CONFIG = 'configs/vitdet_demo.py'
DATA, WORK = Path('data/demo'), Path('work_dirs/vitdet_demo')


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--ranks', type=int, default=min(2, os.cpu_count() or 1),
                        help='processes that train together, one thread each (default: %(default)s)')
    args = parser.parse_args()
    use_checkout()
    os.chdir(ROOT)
    return run(lambda: demo(args.ranks))


def demo(ranks: int) -> None:
    start = time.monotonic()
    if not (DATA / 'annotations' / 'val.json').is_file():
        call('tools/dataset/make_demo_set.py', '--out', DATA)
    # one thread a rank: the per-image work of a detector is Python, which threads do not share
    os.environ['OMP_NUM_THREADS'] = '1'
    total = 8  # pictures an iteration, over all ranks
    options = ['--no-validate', '--work-dir', WORK,  # the evaluation follows
                '--cfg-options', f'train_dataloader.batch_size={total // ranks}']
    if has_bf16_units():
        options = ['--amp', 'bf16', *options]
    launch = ['-m', 'torch.distributed.run', '--standalone', f'--nproc-per-node={ranks}'] if ranks > 1 else []
    written = time.monotonic()
    call(*launch, 'tools/train.py', CONFIG, '--launcher', 'pytorch' if ranks > 1 else 'none', *options)
    trained = time.monotonic()
    checkpoint = WORK / (WORK / 'last_checkpoint').read_text().strip().rsplit('/', 1)[-1]
    pictures, metrics_file = WORK / 'pictures', WORK / 'metrics.json'
    call('tools/test.py', CONFIG, checkpoint, '--eval', 'bbox', 'segm', '--show-dir', pictures,
         '--work-dir', WORK / 'test')
    newest = max((WORK / 'test').glob('*/*.json'), key=lambda path: path.stat().st_mtime)
    metrics = json.loads(newest.read_text().splitlines()[-1])
    metrics_file.write_text(json.dumps(metrics, indent=1))

    from vitdet_plugin.visualization.curves import plot_curves
    scalars = max(WORK.glob('*/vis_data/scalars.json'), key=lambda path: path.stat().st_mtime)
    curve = plot_curves(scalars, WORK / 'curves.png', 'ViTDet on the demo set')
    print(f'trained in {(trained - written) / 60:.1f} minutes, all in {(time.monotonic() - start) / 60:.1f}')
    print(f'checkpoint: {checkpoint}\npictures, prediction beside ground truth: {pictures}\ncurves: {curve}')
    print(f'demo: box AP50={metrics["coco/bbox_mAP_50"]:.2f} mask AP50={metrics["coco/segm_mAP_50"]:.2f}')


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
