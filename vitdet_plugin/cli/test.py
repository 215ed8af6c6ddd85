"""``vitdet test CONFIG CHECKPOINT``: evaluate a checkpoint, write predictions and images."""

import argparse
from collections.abc import Sequence

from vitdet_plugin.cli.arguments import (
    PREDICTION_VALUES,
    add_common_arguments,
    add_dtype_options,
    add_model_arguments,
    options_of,
    parse,
)
from vitdet_plugin.cli.process import freeze_imports, run


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description="Evaluate a checkpoint on the config's test split.")
    add_model_arguments(parser, optional=True)
    add_common_arguments(parser, 'test')
    parser.add_argument('--eval', nargs='*', metavar='METRIC',
                        help="metrics instead of the config's: bbox segm, or for a classifier accuracy f1-score …")
    parser.add_argument('--out', metavar='FILE',
                        help='write the predictions: FILE.pkl (in the format of mmengine), FILE.json (COCO results; of '
                             'a classifier all scores) or FILE.csv (classifiers)')
    parser.add_argument('--out-item', choices=('metrics', 'pred'),
                        help='what --out writes: predictions, or the metrics as FILE.json, FILE.yaml or FILE.pkl '
                             '(default: pred)')
    parser.add_argument('--format-only', action='store_true',
                        help='write COCO result files without scoring (for test servers)')
    parser.add_argument('--show-dir', metavar='DIR', help='write images of predictions next to ground truth')
    parser.add_argument('--show-score-thr', type=float, default=0.3, metavar='S',
                        help='lowest score that is drawn (default: 0.3)')
    parser.add_argument('--show-max', type=int, default=50, metavar='N',
                        help='at most N images, evenly spaced over the split; 0 means all (default: 50)')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation: horizontal flip')
    add_dtype_options(parser)
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    return run(parse(build_parser(prog), argv, PREDICTION_VALUES), test_command)


def test_command(args: argparse.Namespace) -> None:
    from vitdet_plugin.api import test
    from vitdet_plugin.engine.test import TestOptions
    freeze_imports()
    test(args.config, args.checkpoint, **options_of(args, TestOptions))
