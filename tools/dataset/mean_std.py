#!/usr/bin/env python
"""Mean and standard deviation of the training pictures: ``tools/dataset/mean_std.py FOLDER [--ann FILE]``."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _cli import parse, run, use_checkout


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description='Mean and standard deviation over all pixels of the training pictures, and the lines for a config.')
    parser.add_argument('folder', help='a folder of classes, or one with train/ (then train/ alone is read); with '
                                       '--ann: the folder of the pictures')
    parser.add_argument('--ann', metavar='FILE', help='COCO .json of the training split, or list of "path label" lines')
    parser.add_argument('--out', metavar='FILE.json', help='write the figures there, too')
    parser.add_argument('--workers', type=int, metavar='N', help='threads (default: one a core, at most 8)')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(build_parser(), argv)
    use_checkout()

    def action() -> None:
        from vitdet_plugin.datasets.image_sets import training_set
        from vitdet_plugin.datasets.pixel_stats import pixel_stats
        from vitdet_plugin.utils.paths import check_output_path
        if args.out:
            check_output_path('--out', args.out, is_folder=False)
        images = training_set(args.folder, [args.ann] if args.ann else [])
        found = pixel_stats([images.path(index) for index in range(len(images))], args.workers)
        for path in found.unreadable:
            print(f'warning: {path} cannot be read and is left out', file=sys.stderr)
        print(f'{found.images} pictures of {args.ann or images.root}, {found.pixels:,} pixels; red, green, blue')
        for name, values in (('mean', found.mean), ('std', found.std)):
            print(f'{name:<4}  0-255: ' + '  '.join(f'{value:7.3f}' for value in values)
                  + '    0-1: ' + '  '.join(f'{value / 255:.5f}' for value in values))
        print('\nfor the config:\n' + found.config_snippet(is_detection=images.objects is not None))
        if args.out:
            Path(args.out).parent.mkdir(parents=True, exist_ok=True)
            Path(args.out).write_text(json.dumps(found.as_dict(), indent=1))

    return run(action)


if __name__ == '__main__':
    sys.exit(main())
