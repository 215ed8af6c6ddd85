#!/usr/bin/env python
"""Classes, sizes, broken and double pictures of a data set: ``tools/dataset/stats.py FOLDER [--ann FILE …]``."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _cli import parse, run, use_checkout


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description='Pictures or objects of each class, picture sizes, broken files, pictures that occur twice. '
                    'Every picture is read to its end.')
    parser.add_argument('folder', help='a folder of classes, or one with train/, val/, test/ of these; with --ann: the '
                                       'folder of the pictures')
    parser.add_argument('--ann', nargs='+', action='extend', default=[], metavar='FILE',
                        help='COCO .json files, or lists of "path label" lines: one a split')
    parser.add_argument('--similar', type=int, metavar='BITS',
                        help='also find pictures that are nearly the same (resized, compressed again): at most so many '
                             'of 256 bits of their fingerprints differ; 8 is strict, 24 loose')
    parser.add_argument('--out', metavar='DIR', help='write stats.json, stats.txt and stats.png there')
    parser.add_argument('--workers', type=int, metavar='N', help='threads (default: one a core, at most 8)')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(build_parser(), argv)
    use_checkout()

    def action() -> None:
        from vitdet_plugin.datasets.image_sets import open_image_sets
        from vitdet_plugin.datasets.set_stats import collect_stats
        from vitdet_plugin.utils.paths import check_output_path
        if args.out:
            check_output_path('--out', args.out, is_folder=True)
        stats = collect_stats(open_image_sets(args.folder, args.ann), args.similar, args.workers)
        print(stats)
        if args.out:
            from vitdet_plugin.visualization.stats_figure import draw_stats
            out = Path(args.out)
            picture = draw_stats(stats, out / 'stats.png')
            (out / 'stats.txt').write_text(f'{stats}\n', encoding='utf-8')
            (out / 'stats.json').write_text(json.dumps(stats.as_dict(), indent=1), encoding='utf-8')
            print(f'\nstats.txt, stats.json and {picture.name} in {out}')

    return run(action)


if __name__ == '__main__':
    sys.exit(main())
