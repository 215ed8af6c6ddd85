#!/usr/bin/env python
"""Train a model: ``python tools/train.py configs/vitdet_100e.py [--amp] [--resume] [--cfg-options key=value …]``."""

import argparse
from collections.abc import Sequence

from _cli import add_common_arguments, leave, parse, run, use_checkout


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description='Train a detector or classifier from a config file.')
    parser.add_argument('config', help='config file, or mmdet::<config that mmdet ships>')
    add_common_arguments(parser)
    parser.add_argument('--amp', nargs='?', const='auto', choices=('auto', 'fp16', 'bf16'),
                        help='mixed precision; without a value fp16 on a GPU and bf16 on a CPU')
    parser.add_argument('--fp16', action='store_const', const='fp16', dest='amp', help='the same as --amp fp16')
    parser.add_argument('--resume', '--resume-from', nargs='?', const='auto', metavar='PATH',
                        help='go on from PATH, or from the newest checkpoint in the work directory')
    parser.add_argument('--load-from', metavar='PATH', help='start from these weights (overrides load_from)')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help="scale the learning rate by batch size / the config's auto_scale_lr.base_batch_size")
    parser.add_argument('--seed', type=int, help='seed of all random number generators')
    parser.add_argument('--deterministic', action='store_true', help='use deterministic algorithms only')
    parser.add_argument('--eval', nargs='*', metavar='METRIC',
                        help='after training, evaluate the best (or else the last) checkpoint on the test split')
    parser.add_argument('--no-validate', action='store_true', help='no evaluation during training')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(build_parser(), argv, {
        '--amp': lambda word: word in ('auto', 'fp16', 'bf16'),
        '--resume': lambda word: not word.endswith('.py'),
        '--resume-from': lambda word: not word.endswith('.py'),
    })
    use_checkout()

    def action() -> None:
        from vitdet_plugin.engine.train import train
        train(args)

    return run(action)


if __name__ == '__main__':
    leave(main())
