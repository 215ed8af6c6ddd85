"""``vitdet browse CONFIG --out DIR``: draw samples before and after augmentation."""

import argparse
from collections.abc import Sequence

from vitdet_plugin.cli.arguments import add_config_argument, add_config_options, parse
from vitdet_plugin.cli.process import run


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description="Draw samples of a config: originals next to the pipeline's output, with boxes and "
                               'masks, or labels; for classifiers also a batch of mixed images (Mixup, CutMix).')
    add_config_argument(parser)
    parser.add_argument('--out', required=True, metavar='DIR', help='folder for the images')
    parser.add_argument('--split', choices=('train', 'val', 'test'), default='train',
                        help='data loader of the config to use (default: train)')
    parser.add_argument('--count', type=int, default=12, metavar='N',
                        help='samples, evenly spaced over the split (default: 12)')
    parser.add_argument('--repeats', type=int, default=3, metavar='N',
                        help='passes of each sample through the pipeline (default: 3)')
    parser.add_argument('--seed', type=int, default=0, help='the same seed gives the same augmentations (default: 0)')
    add_config_options(parser, device=False)
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    return run(parse(build_parser(prog), argv), browse_command)


def browse_command(args: argparse.Namespace) -> None:
    from mmengine.runner import set_random_seed

    from vitdet_plugin.config.loading import load_config
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.utils.paths import check_output_path
    from vitdet_plugin.visualization.browse import browse
    check_output_path('--out', args.out, is_folder=True)
    if not 0 <= args.seed < 2**32:
        raise UserError(f'--seed {args.seed}: give a number from 0 to {2**32 - 1}')
    cfg = load_config(args.config, args.cfg_options)
    set_random_seed(args.seed)
    written = browse(cfg, args.out, args.count, args.repeats, args.split)
    print(f'{", ".join(path.name for path in written[:4])}{" …" if len(written) > 4 else ""} in {args.out}')
