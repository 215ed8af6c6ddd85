#!/usr/bin/env python
"""Soft labels of every place of pictures: ``tools/dataset/token_labels.py CONFIG CHECKPOINT FOLDER --out DIR``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _cli import add_config_options, add_model_arguments, parse, run, use_checkout


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description='Write what a trained classifier says about every place of pictures, DIR/<class>/<picture>.pt, for '
                    'training with token labels. Files that exist are left as they are.')
    add_model_arguments(parser)
    parser.add_argument('inputs', nargs='+', metavar='FOLDER', help='folders of pictures, in folders of their classes')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder for the label files')
    parser.add_argument('--shape', nargs=2, type=int, metavar=('H', 'W'),
                        help='size to which whole pictures are resized; larger gives more places (default: what the '
                             'test pipeline of the config makes)')
    parser.add_argument('--top', type=int, default=5, metavar='K', help='classes kept of a place (default: 5)')
    parser.add_argument('--batch-size', type=int, default=16, metavar='N', help='pictures at once (default: 16)')
    add_config_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(build_parser(), argv)
    use_checkout()

    def action() -> None:
        from vitdet_plugin.engine.inference import expand
        from vitdet_plugin.engine.load_model import load_model
        from vitdet_plugin.engine.make_token_labels import make_token_labels
        from vitdet_plugin.evaluation.complexity import input_shape
        from vitdet_plugin.utils.paths import check_output_path
        from vitdet_plugin.utils.track import track
        check_output_path('--out', args.out, is_folder=True)
        pictures = list(expand(args.inputs))
        loaded = load_model(args.config, args.checkpoint, args.device, args.cfg_options)
        shape = tuple(args.shape) if args.shape else input_shape(loaded.cfg)
        written = list(track(make_token_labels(loaded, pictures, Path(args.out), shape, args.top, args.batch_size),
                             len(pictures), 'pictures'))
        there = len(pictures) - len(written)
        print(f'{len(written)} label files in {args.out}' + (f', {there} were there' if there else ''))

    return run(action)


if __name__ == '__main__':
    sys.exit(main())
