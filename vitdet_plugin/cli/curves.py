"""``vitdet curves WORK_DIR… --out FILE.png``: plot losses and metrics of training runs."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from vitdet_plugin.cli.arguments import parse
from vitdet_plugin.cli.process import run


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description='Plot the curves of one run (loss, its parts, every metric), or of several to compare '
                               '(total loss and one metric).')
    parser.add_argument('logs', nargs='+', metavar='LOG',
                        help='work directories of training runs (interrupted and resumed runs are joined), or '
                             'scalars.json files')
    parser.add_argument('--out', required=True, metavar='FILE.png', help='figure to write (.png, .svg, .pdf)')
    parser.add_argument('--metrics', nargs='+', metavar='NAME',
                        help='which metrics: bbox_mAP, top1 … (default: all; to compare: the first that all have)')
    parser.add_argument('--names', nargs='+', metavar='NAME', help='names of the runs (default: their folders)')
    parser.add_argument('--title', help='title of the figure')
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    return run(parse(build_parser(prog), argv), curves_command)


def curves_command(args: argparse.Namespace) -> None:
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.utils.paths import check_output_path
    from vitdet_plugin.visualization.curves import plot_curves
    if args.names and len(args.names) != len(args.logs):
        raise UserError(f'--names: {len(args.names)} names for {len(args.logs)} logs; give one name for each log')
    if Path(args.out).suffix not in ('.png', '.svg', '.pdf', '.jpg'):
        raise UserError(f'--out {args.out}: write a .png, .svg, .pdf or .jpg')
    check_output_path('--out', args.out, is_folder=False)
    print(plot_curves(args.logs if len(args.logs) > 1 else args.logs[0], args.out, args.title, args.names,
                      args.metrics))
