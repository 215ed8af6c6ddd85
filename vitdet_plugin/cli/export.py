"""``vitdet export RUN_DIR | CONFIG CHECKPOINT``: write a model for another runtime."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vitdet_plugin.cli.arguments import add_config_options, add_model_arguments, parse
from vitdet_plugin.cli.model_words import whole_model
from vitdet_plugin.cli.process import run
from vitdet_plugin.export.request import (
    DEFAULT_OPSET,
    MASKS,
    SUFFIXES,
    ExportRequest,
    check_combination,
    check_opset,
    check_packages,
    check_shape,
    output_file,
    read_dynamic,
)


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, formatter_class=argparse.RawDescriptionHelpFormatter, description=_DESCRIPTION)
    add_model_arguments(parser, optional=True)
    parser.add_argument('--format', choices=tuple(SUFFIXES), default='onnx', help='default: onnx')
    parser.add_argument('--out', metavar='FILE', help='file to write (default with a run folder: model'
                                                      f'{", model".join(SUFFIXES.values())} in it)')
    parser.add_argument('--shape', nargs=2, type=int, metavar=('H', 'W'),
                        help="input size in pixels (default: the output size of the config's test pipeline)")
    parser.add_argument('--dynamic', metavar='NAMES', help='what the file leaves open: batch, size, or batch,size')
    parser.add_argument('--masks', choices=MASKS, help='form of the masks: probabilities over the boxes, or pasted at '
                                                       'the size of the input (default: boxes)')
    parser.add_argument('--features', action='store_true', help='export only backbone and neck of a detector')
    parser.add_argument('--opset', type=int, metavar='N', help=f'ONNX operator set (default: {DEFAULT_OPSET})')
    parser.add_argument('--half', action='store_true', help='float16: weights and activations in ONNX, weights in '
                                                            'OpenVINO')
    parser.add_argument('--int8', metavar='DATA', help='8-bit layers, calibrated with a folder of images, the training '
                                                       'images of a config, or a COCO file')
    add_config_options(parser, device=False)
    return parser


_DESCRIPTION = """\
Write a classifier or a detector, with its normalization, for another runtime, and compare the file with
the model's own predictions.

  vitdet export work_dirs/NAME --format openvino
  vitdet export CONFIG CHECKPOINT --out model.onnx --dynamic batch,size
"""


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    return run(parse(build_parser(prog), argv), export_command, _split_model)


def _split_model(args: argparse.Namespace) -> None:
    args.model = whole_model(args.config) if args.checkpoint is None else None
    if args.model is not None:
        args.config = None


def export_command(args: argparse.Namespace) -> None:
    from vitdet_plugin.utils.paths import check_output_path
    dynamic, shape = read_dynamic(args.dynamic), check_shape(args.shape)
    check_combination(args.format, args.opset, args.half, args.int8, args.masks, args.features, dynamic)
    config, checkpoint, folder = _find_model(args)
    out = output_file(args.out, args.format, folder, args.half, args.int8)
    check_output_path('--out', out, is_folder=False, suffixes=tuple(SUFFIXES.values()))
    check_packages(args.format)
    check_opset(args.opset)
    if args.int8 is not None:
        from vitdet_plugin.export.calibration import list_images
        list_images(args.int8)
    from vitdet_plugin.config.input_shape import input_shape
    from vitdet_plugin.engine.load_model import load_model
    from vitdet_plugin.export.formats import describe, export_model
    from vitdet_plugin.export.tensorrt import tensorrt_warning
    from vitdet_plugin.utils.track import working
    with working('loading the model'):
        loaded = load_model(config, checkpoint, 'cpu', args.cfg_options)
    request = ExportRequest(args.format, out, shape or input_shape(loaded.cfg), dynamic,
                            DEFAULT_OPSET if args.opset is None else args.opset,
                            args.half, args.int8, args.masks or MASKS[0], args.features)
    exported = export_model(loaded, request)
    print('\n'.join([describe(loaded, request, exported), *exported.notes]))
    if args.format == 'onnx' and (warning := tensorrt_warning(out)):
        print(warning, file=sys.stderr)


def _find_model(args: argparse.Namespace) -> tuple[str | Path, str | Path, Path | None]:
    """Return config, checkpoint, and the run folder if one stands for both."""
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.prediction.run_folder import find_run, is_exported
    if args.model is None:
        return args.config, args.checkpoint, None
    if is_exported(args.model):
        raise UserError(f'{args.model} is an exported file; give a run folder, or a config and a checkpoint')
    config, checkpoint = find_run(args.model)
    return config, checkpoint, checkpoint if checkpoint.is_dir() else checkpoint.parent
