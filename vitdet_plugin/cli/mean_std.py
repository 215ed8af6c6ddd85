"""``vitdet mean-std FOLDER [--ann FILE]``: mean and standard deviation of the training images."""

import argparse
import json
import sys
from collections.abc import Sequence

from vitdet_plugin.cli.arguments import parse
from vitdet_plugin.cli.process import run
from vitdet_plugin.utils.text import counted


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description='Compute mean and standard deviation over all pixels of the training images, and print '
                               'the lines for a config.')
    parser.add_argument('folder', help='a folder of classes, or one with train/ (then only train/ is read); with '
                                       '--ann: the folder of the images')
    parser.add_argument('--ann', metavar='FILE', help='COCO .json of the training split, or list of "path label" lines')
    parser.add_argument('--out', metavar='FILE.json', help='also write the values to this file')
    parser.add_argument('--workers', type=int, metavar='N', help='threads (default: one per core, at most 8)')
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    return run(parse(build_parser(prog), argv), mean_std_command)


def mean_std_command(args: argparse.Namespace) -> None:
    from vitdet_plugin.datasets.image_sets import training_set
    from vitdet_plugin.datasets.pixel_stats import pixel_stats
    from vitdet_plugin.utils.output_files import write_text
    from vitdet_plugin.utils.paths import check_output_path
    if args.out:
        check_output_path('--out', args.out, is_folder=False, suffixes=('.json',))
    images = training_set(args.folder, [args.ann] if args.ann else [])
    found = pixel_stats([images.path(index) for index in range(len(images))], args.workers)
    for path in found.unreadable:
        print(f'warning: {path} cannot be read and is left out', file=sys.stderr)
    print(f'{counted(found.images, "image")} of {args.ann or images.root}, {found.pixels:,} pixels; red, green, blue')
    for name, values in (('mean', found.mean), ('std', found.std)):
        print(f'{name:<4}  0-255: ' + '  '.join(f'{value:7.3f}' for value in values)
              + '    0-1: ' + '  '.join(f'{value / 255:.5f}' for value in values))
    print('\nfor the config:\n' + found.config_snippet(is_detection=images.objects is not None))
    if args.out:
        write_text(args.out, json.dumps(found.as_dict(), indent=1))
