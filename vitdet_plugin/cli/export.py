"""``vitdet export CONFIG CHECKPOINT --out FILE.onnx``: export a model to ONNX."""

import argparse
from collections.abc import Sequence

from vitdet_plugin.cli.common import add_config_options, add_model_arguments, parse, run


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description='Write a classifier or a detector as an ONNX file that includes the normalization, and '
                               'compare ONNX Runtime with PyTorch.')
    add_model_arguments(parser, optional=True)
    parser.add_argument('--out', required=True, metavar='FILE.onnx', help='file to write')
    parser.add_argument('--shape', nargs=2, type=int, metavar=('H', 'W'),
                        help="input size in pixels (default: the output size of the config's test pipeline)")
    parser.add_argument('--features', action='store_true', help='export only backbone and neck of a detector')
    parser.add_argument('--opset', type=int, default=18, metavar='N', help='opset version (default: 18)')
    add_config_options(parser, device=False)
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    return run(parse(build_parser(prog), argv), export_command)


def export_command(args: argparse.Namespace) -> None:
    from vitdet_plugin.engine.load_model import load_model
    from vitdet_plugin.evaluation.complexity import input_shape
    from vitdet_plugin.export.modules import input_channels
    from vitdet_plugin.export.onnx import export_onnx
    from vitdet_plugin.export.onnx_file import read_opset
    from vitdet_plugin.export.onnx_session import describe_channels
    from vitdet_plugin.utils.paths import check_output_path
    from vitdet_plugin.utils.track import working
    check_output_path('--out', args.out, is_folder=False)
    with working('loading the model'):
        loaded = load_model(args.config, args.checkpoint, 'cpu', args.cfg_options)
    shape = tuple(args.shape) if args.shape else input_shape(loaded.cfg)
    with working('exporting and comparing with PyTorch'):
        difference = export_onnx(loaded, args.out, shape, args.opset, args.features)
    part = 'classifier' if loaded.is_classifier else 'backbone and neck' if args.features else 'detector'
    channels = input_channels(loaded.model)
    print(f'{args.out}: {part}, opset {read_opset(args.out)}, input 1 x {channels} x {shape[0]} x {shape[1]} '
          f'({describe_channels(channels)}, 0 to 255), ONNX Runtime within {difference:.1e} of PyTorch')
