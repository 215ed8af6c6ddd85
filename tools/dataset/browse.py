#!/usr/bin/env python
"""Training samples as the model sees them: ``tools/dataset/browse.py CONFIG --out DIR``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _cli import add_config_options, parse, run, use_checkout


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description='Draw samples of a config: originals beside what the pipeline makes of them, with boxes and masks, '
                    'or labels; for classifiers also a batch with mixed pictures (Mixup, CutMix).')
    parser.add_argument('config', help='config file')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder for the pictures')
    parser.add_argument('--split', choices=('train', 'val', 'test'), default='train',
                        help='which of the data loaders of the config (default: train)')
    parser.add_argument('--count', type=int, default=12, metavar='N',
                        help='samples, evenly spaced over the split (default: 12)')
    parser.add_argument('--repeats', type=int, default=3, metavar='N',
                        help='passes of each sample through the pipeline (default: 3)')
    parser.add_argument('--seed', type=int, default=0, help='same seed, same augmentations (default: 0)')
    add_config_options(parser, device=False)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(build_parser(), argv)
    use_checkout()

    def action() -> None:
        from mmengine.runner import set_random_seed

        from vitdet_plugin.config.loading import load_config
        from vitdet_plugin.utils.paths import check_output_path
        from vitdet_plugin.visualization.browse import browse
        check_output_path('--out', args.out, is_folder=True)
        cfg = load_config(args.config, args.cfg_options)
        set_random_seed(args.seed)
        written = browse(cfg, args.out, args.count, args.repeats, args.split)
        print(f'{", ".join(path.name for path in written[:4])}{" …" if len(written) > 4 else ""} in {args.out}')

    return run(action)


if __name__ == '__main__':
    sys.exit(main())
