"""``vitdet token-labels CONFIG CHECKPOINT FOLDER… --out DIR``: soft labels of image locations."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from vitdet_plugin.cli.arguments import add_config_options, add_model_arguments, parse
from vitdet_plugin.cli.checks import check_at_least
from vitdet_plugin.cli.process import run


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description="Write a trained classifier's predictions at every location of the feature map, "
                               'DIR/<class>/<image>.pt, for training with token labels. Existing files are kept.')
    add_model_arguments(parser)
    parser.add_argument('inputs', nargs='+', metavar='FOLDER', help='folders of images, one subfolder per class')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder for the label files')
    parser.add_argument('--shape', nargs=2, type=int, metavar=('H', 'W'),
                        help='size to which whole images are resized; larger gives more locations (default: the output '
                             "size of the config's test pipeline)")
    parser.add_argument('--top', type=int, default=5, metavar='K', help='classes kept per location (default: 5)')
    parser.add_argument('--batch-size', type=int, default=16, metavar='N', help='images per batch (default: 16)')
    add_config_options(parser)
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    return run(parse(build_parser(prog), argv), token_labels_command)


def token_labels_command(args: argparse.Namespace) -> None:
    from vitdet_plugin.config.input_shape import input_shape
    from vitdet_plugin.engine.image_sources import find_images
    from vitdet_plugin.engine.load_model import load_model
    from vitdet_plugin.engine.make_token_labels import make_token_labels
    from vitdet_plugin.utils.paths import check_output_path
    from vitdet_plugin.utils.track import track
    check_output_path('--out', args.out, is_folder=True)
    check_at_least(args, batch_size=1, shape=1)
    images = list(dict.fromkeys(source.path for source in find_images(args.inputs)))
    loaded = load_model(args.config, args.checkpoint, args.device, args.cfg_options)
    shape = tuple(args.shape) if args.shape else input_shape(loaded.cfg)
    written = list(track(make_token_labels(loaded, images, Path(args.out), shape, args.top, args.batch_size),
                         len(images), 'images'))
    existing = len(images) - len(written)
    print(f'{len(written)} label files in {args.out}' + (f', {existing} already existed' if existing else ''))
