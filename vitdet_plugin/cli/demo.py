"""``vitdet demo``: write the demo set, train a small model on it, evaluate, draw results."""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from vitdet_plugin.cli import make_demo_set, pretrain_demo
from vitdet_plugin.cli.arguments import parse
from vitdet_plugin.cli.checks import check_at_least
from vitdet_plugin.cli.process import run
from vitdet_plugin.utils.running_command import run_vitdet

DATA = Path('data/demo')
METRICS = {'box': 'coco/bbox_mAP_50', 'mask': 'coco/segm_mAP_50'}
WITH_WEIGHTS = 'mask-rcnn_dinov2-s_300it_demo'  # the default config with --weights
PARTS = {'make-set': make_demo_set, 'pretrain': pretrain_demo}


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description='Create a small data set, train a model on it, evaluate it and draw the results: '
                               'data/demo and work_dirs/ in the current folder (about 9 minutes on 2 cores).',
        epilog='parts of the demo: vitdet demo make-set --help, vitdet demo pretrain --help')
    parser.add_argument('config', nargs='?',
                        help='a config for the demo set, file or name of a shipped one (default: vitdet_demo; with '
                             f'--weights {WITH_WEIGHTS})')
    parser.add_argument('--weights', metavar='NAME|FILE',
                        help='pre-trained weights of the backbone, in place of the small ones of the package: a name '
                             "of 'vitdet weights list', a file, a URL or a work directory; the default config reads "
                             'dinov2_s14')
    parser.add_argument('--ranks', type=int, default=min(2, os.cpu_count() or 1),
                        help='processes that train together, one thread each (default: %(default)s)')
    parser.add_argument('--out', type=Path, default=Path(), metavar='DIR',
                        help='folder for data/demo and work_dirs/ (default: the current one)')
    parser.add_argument('--data-only', action='store_true', help='only write the data set')
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in PARTS:
        return PARTS[words[0]].main(words[1:], prog=f'{prog or "demo"} {words[0]}')
    return run(parse(build_parser(prog), words), demo_command)


def demo_command(args: argparse.Namespace) -> None:
    from vitdet_plugin.config.names import find_config
    from vitdet_plugin.utils.paths import check_output_path
    check_output_path('--out', args.out, is_folder=True)
    check_at_least(args, ranks=1)
    config = os.path.abspath(find_config(args.config or (WITH_WEIGHTS if args.weights else 'vitdet_demo')))
    if args.data_only:
        args.out.mkdir(parents=True, exist_ok=True)
        write_set(args.out)
    else:
        weights = None
        if args.weights:
            from vitdet_plugin.checkpoints.fetching import local_file
            weights = local_file(args.weights).absolute()  # the commands run in another folder
        train_and_test(config, args.ranks, args.out, weights)


def write_set(out: Path) -> None:
    """Write the demo set below ``out``, unless it exists."""
    if (out / DATA / 'annotations' / 'val.json').is_file():
        print(f'{out / DATA} exists already')
    else:
        vitdet('demo', 'make-set', '--out', out / DATA, cwd=Path())


def train_and_test(config: str, ranks: int, out: Path, weights: Path | None = None) -> None:
    """Run the demo in the folder ``out``; the config reads ``data/demo`` in it.

    Args:
        config: Config file for the demo set.
        ranks: Number of processes that train.
        out: Folder for the data set and the results.
        weights: File from which the backbone starts; None: as the config says.

    Raises:
        UserError: The batch size of the config cannot be divided by the number of ranks.
    """
    from vitdet_plugin.compat.cpu_features import has_fast_bf16
    from vitdet_plugin.config.loading import load_config
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.utils.output_files import write_text
    from vitdet_plugin.visualization.curves import plot_curves
    cfg = load_config(config)
    if 'batch_size' not in (cfg.get('train_dataloader') or {}):
        raise UserError(f'{config} has no train_dataloader.batch_size; is it a config for the demo set?')
    batch, work = cfg.train_dataloader.batch_size, Path('work_dirs') / Path(config).stem
    if batch % ranks:
        raise UserError(f'{config}: train_dataloader.batch_size={batch} is not divisible by {ranks} ranks; set --ranks')
    start = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    write_set(out)
    # one thread per rank: the per-image work of a detector is Python, which threads do not share
    os.environ['OMP_NUM_THREADS'] = '1'
    options = ['--no-validate', '--work-dir', work,  # the evaluation follows
               '--cfg-options', f'train_dataloader.batch_size={batch // ranks}']
    if weights is not None:
        options = ['--weights', weights, *options]
    if has_fast_bf16():
        options = ['--amp', 'bf16', *options]
    written = time.monotonic()
    vitdet('train', config, '--launcher', 'pytorch' if ranks > 1 else 'none', *options, cwd=out, ranks=ranks)
    trained = time.monotonic()
    checkpoint = work / (out / work / 'last_checkpoint').read_text().strip().rsplit('/', 1)[-1]
    images, curves = work / 'images', work / 'curves.png'
    vitdet('test', config, checkpoint, '--show-dir', images, '--work-dir', work / 'test', cwd=out)
    newest = max((out / work / 'test').glob('*/*.json'), key=lambda path: path.stat().st_mtime)
    metrics = json.loads(newest.read_text().splitlines()[-1])
    write_text(out / work / 'metrics.json', json.dumps(metrics, indent=1))
    scalars = max((out / work).glob('*/vis_data/scalars.json'), key=lambda path: path.stat().st_mtime)
    plot_curves(scalars, out / curves, f'{work.name} on the demo set')
    print(f'trained in {(trained - written) / 60:.1f} minutes, {(time.monotonic() - start) / 60:.1f} minutes in total')
    print(f'checkpoint: {out / checkpoint}\nimages, predictions next to ground truth: {out / images}\n'
          f'curves: {out / curves}')
    scores = [f'{name} AP50={metrics[key]:.2f}' for name, key in METRICS.items() if key in metrics]
    print(f'demo: {" ".join(scores)}')


def vitdet(*words: object, cwd: Path, ranks: int = 1) -> None:
    """Run a subcommand in a new process. If it fails, exit with its status; it has printed the error."""
    if status := run_vitdet(*words, cwd=cwd, ranks=ranks).returncode:
        sys.exit(status)
