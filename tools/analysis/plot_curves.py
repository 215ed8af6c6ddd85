#!/usr/bin/env python
"""Loss and accuracy of training runs as a picture: ``tools/analysis/plot_curves.py WORK_DIR… --out FILE.png``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _cli import parse, run, use_checkout


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description='Curves of one run (loss, its parts, every metric), or of several to compare (total loss and one '
                    'metric).')
    parser.add_argument('logs', nargs='+', metavar='LOG',
                        help='work directories of tools/train.py (interrupted and resumed runs are joined), or '
                             'scalars.json files')
    parser.add_argument('--out', required=True, metavar='FILE.png', help='picture to write (.png, .svg, .pdf)')
    parser.add_argument('--metrics', nargs='+', metavar='NAME',
                        help='which metrics: bbox_mAP, top1 … (default: all; to compare: the first that all have)')
    parser.add_argument('--names', nargs='+', metavar='NAME', help='names of the runs (default: their folders)')
    parser.add_argument('--title', help='text above the picture')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(build_parser(), argv)
    use_checkout()

    def action() -> None:
        from vitdet_plugin.errors import UserError
        from vitdet_plugin.utils.paths import check_output_path
        from vitdet_plugin.visualization.curves import plot_curves
        if args.names and len(args.names) != len(args.logs):
            raise UserError(f'--names: {len(args.names)} names for {len(args.logs)} logs')
        if Path(args.out).suffix not in ('.png', '.svg', '.pdf', '.jpg'):
            raise UserError(f'--out {args.out}: write a .png, .svg, .pdf or .jpg')
        check_output_path('--out', args.out, is_folder=False)
        print(plot_curves(args.logs if len(args.logs) > 1 else args.logs[0], args.out, args.title, args.names,
                          args.metrics))

    return run(action)


if __name__ == '__main__':
    sys.exit(main())
