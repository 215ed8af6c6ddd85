#!/usr/bin/env python
"""ONNX file of a model: ``tools/export/onnx.py CONFIG CHECKPOINT --out FILE.onnx``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _cli import add_config_options, add_model_arguments, parse, run, use_checkout


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description='Write a classifier or a detector as an ONNX file with normalisation inside, and compare ONNX '
                    'Runtime with PyTorch.')
    add_model_arguments(parser)
    parser.add_argument('--out', required=True, metavar='FILE.onnx', help='file to write')
    parser.add_argument('--shape', nargs=2, type=int, metavar=('H', 'W'),
                        help='input in pixels (default: what the test pipeline of the config makes)')
    parser.add_argument('--features', action='store_true', help='of a detector only backbone and neck')
    parser.add_argument('--opset', type=int, default=18, metavar='N', help='version of the operators (default: 18)')
    add_config_options(parser, device=False)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(build_parser(), argv)
    use_checkout()

    def action() -> None:
        from vitdet_plugin.engine.load_model import load_model
        from vitdet_plugin.evaluation.complexity import input_shape
        from vitdet_plugin.export.onnx import export_onnx
        from vitdet_plugin.utils.paths import check_output_path
        check_output_path('--out', args.out, is_folder=False)
        loaded = load_model(args.config, args.checkpoint, 'cpu', args.cfg_options)
        shape = tuple(args.shape) if args.shape else input_shape(loaded.cfg)
        difference = export_onnx(loaded, args.out, shape, args.opset, args.features)
        part = 'classifier' if loaded.is_classifier else 'backbone and neck' if args.features else 'detector'
        print(f'{args.out}: {part}, input 1 x 3 x {shape[0]} x {shape[1]} (RGB, 0 to 255), ONNX Runtime within '
              f'{difference:.1e} of PyTorch')

    return run(action)


if __name__ == '__main__':
    sys.exit(main())
