"""``vitdet stats FOLDER [--ann FILE …]``: classes, sizes, broken and duplicate images of a data set."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from vitdet_plugin.cli.arguments import parse
from vitdet_plugin.cli.process import run


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description='Count images or objects of each class, image sizes, broken files and duplicate images. '
                               'Every image is decoded completely.')
    parser.add_argument('folder', help='a data set in any format that vitdet init reads, its archive, or a folder of '
                                       'vitdet init; with --ann: the folder of the images')
    parser.add_argument('--ann', nargs='+', action='extend', default=[], metavar='FILE',
                        help='COCO .json files, or lists of "path label" lines: one per split')
    parser.add_argument('--similar', type=int, metavar='BITS',
                        help='also find images that are nearly the same (resized, recompressed): at most this many of '
                             'the 256 bits of their fingerprints differ; 8 is strict, 24 loose')
    parser.add_argument('--out', metavar='DIR', help='write stats.json, stats.txt and stats.png there')
    parser.add_argument('--workers', type=int, metavar='N', help='threads (default: one per core, at most 8)')
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    return run(parse(build_parser(prog), argv), stats_command)


def stats_command(args: argparse.Namespace) -> None:
    from vitdet_plugin.datasets.any_sets import open_any_sets
    from vitdet_plugin.datasets.archives import unpacked
    from vitdet_plugin.datasets.image_sets import open_image_sets
    from vitdet_plugin.datasets.set_stats import collect_stats
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.utils.paths import check_output_path
    if args.similar is not None and not 0 <= args.similar <= 256:
        raise UserError(f'--similar {args.similar}: give a number of bits from 0 to 256')
    if args.out:
        check_output_path('--out', args.out, is_folder=True)
    if args.ann:
        sets, what = open_image_sets(args.folder, args.ann), ''
    else:
        with unpacked(Path(args.folder)) as folder:
            sets, what = open_any_sets(folder, is_trusted=folder == Path(args.folder))
    stats = collect_stats(sets, args.similar, args.workers)
    print(f'{what}\n\n{stats}' if what else stats)
    if args.out:
        from vitdet_plugin.utils.output_files import write_text
        from vitdet_plugin.visualization.stats_figure import draw_stats
        out = Path(args.out)
        figure = draw_stats(stats, out / 'stats.png')
        write_text(out / 'stats.txt', f'{stats}\n')
        write_text(out / 'stats.json', json.dumps(stats.as_dict(), indent=1))
        print(f'\nstats.txt, stats.json and {figure.name} in {out}')
