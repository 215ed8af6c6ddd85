#!/usr/bin/env python
"""Evaluate a checkpoint: ``tools/test.py CONFIG CHECKPOINT [--eval bbox segm] [--show-dir DIR] [--out FILE]``."""

import argparse
from collections.abc import Sequence

from _cli import add_common_arguments, leave, parse, run, use_checkout


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Evaluate a checkpoint on the config's test split.")
    parser.add_argument('config', help='config file, or mmdet::<config that mmdet ships>')
    parser.add_argument('checkpoint', help='checkpoint file, or a work directory: its best one')
    add_common_arguments(parser)
    parser.add_argument('--eval', nargs='*', metavar='METRIC',
                        help="metrics instead of the config's: bbox segm, or of a classifier accuracy f1-score …")
    parser.add_argument('--out', metavar='FILE',
                        help='write the predictions: FILE.pkl (what mmengine dumps), FILE.json (COCO results; of a '
                             'classifier all scores) or FILE.csv (classifiers)')
    parser.add_argument('--format-only', action='store_true',
                        help='write COCO result files without scoring (for test servers)')
    parser.add_argument('--show-dir', metavar='DIR', help='write pictures of predictions beside ground truth')
    parser.add_argument('--show-score-thr', type=float, default=0.3, metavar='S',
                        help='lowest score that is drawn (default: 0.3)')
    parser.add_argument('--show-max', type=int, default=50, metavar='N',
                        help='at most N pictures, evenly spaced over the split; 0 means all (default: 50)')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation: horizontal flip')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(build_parser(), argv)
    use_checkout()

    def action() -> None:
        from vitdet_plugin.engine.test import test
        test(args)

    return run(action)


if __name__ == '__main__':
    leave(main())
