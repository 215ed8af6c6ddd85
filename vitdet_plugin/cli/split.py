"""``vitdet split FOLDER --out DIR``: split a folder of classes into train, val and test."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vitdet_plugin.cli.arguments import parse
from vitdet_plugin.cli.process import run


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description='Split a folder of classes into train, val and test. Every class is split by the same '
                               'fractions; nothing is deleted or overwritten.')
    parser.add_argument('folder', help='<folder>/<class name>/<images>')
    parser.add_argument('--out', required=True, metavar='DIR', help='new folder for the result')
    parser.add_argument('--fractions', nargs=3, type=float, default=(0.7, 0.15, 0.15), metavar=('TRAIN', 'VAL', 'TEST'),
                        help='fraction of each split, 0 for none (default: 0.7 0.15 0.15)')
    parser.add_argument('--seed', type=int, default=0, help='the same seed gives the same split (default: 0)')
    parser.add_argument('--group-pattern', metavar='REGEX',
                        help='images with the same match in their paths stay together: "(plant\\d+)_"')
    parser.add_argument('--groups', metavar='FILE.csv',
                        help='table with the columns file (path in the folder) and group, instead of --group-pattern')
    parser.add_argument('--mode', choices=('list', 'link', 'copy'), default='list',
                        help='write lists for mmpretrain (default), or folders of symbolic links or of copies')
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    return run(parse(build_parser(prog), argv), split_command)


def split_command(args: argparse.Namespace) -> None:
    from vitdet_plugin.config.dataset_config import SPLITS
    from vitdet_plugin.datasets import split
    from vitdet_plugin.datasets.any_sets import read_specific
    from vitdet_plugin.datasets.conversion import check_class_names
    from vitdet_plugin.datasets.image_sets import class_root, read_class_folders, split_folders
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.utils.paths import check_output_path
    from vitdet_plugin.utils.text import escape, is_unicode
    if args.groups and args.group_pattern:
        raise UserError('--groups and --group-pattern: give one of them')
    check_output_path('--out', args.out, is_folder=True)
    folder = Path(args.folder)
    if not folder.is_dir():
        raise UserError(f'{folder} is not a folder; give <folder>/<class name>/<images>')
    if (specific := read_specific(folder)) and not specific[0].is_classification:
        raise UserError(f'{folder} is a data set with objects ({specific[0].format}: {specific[1]}), not a folder of '
                        'classes; vitdet init splits it')
    folder = class_root(folder)
    if splits := split_folders(folder):
        raise UserError(f'{folder} is split already: it holds {", ".join(each.name for each in splits)}; give one of '
                        'these folders, or a folder of classes')
    images = read_class_folders(folder, advice='give <folder>/<class name>/<images>')
    check_class_names(images.classes, folder)
    misnamed = [name for name in images.files if not is_unicode(name)]
    images.leave_out(misnamed)
    for what, names in (('images whose names are not UTF-8', [*map(escape, misnamed)]),
                        ('files that are not images by their suffix', images.other_files),
                        ('images outside of the class folders', images.outside)):
        if names:
            print(f'warning: {len(names)} {what} are left out: {", ".join(names[:3])}{", …" if len(names) > 3 else ""}',
                  file=sys.stderr)
    groups = None
    if args.groups:
        groups = split.groups_from_csv(images.files, args.groups)
    elif args.group_pattern:
        groups = split.groups_by_pattern(images.files, args.group_pattern)
    parts = split.split_indices(images.labels, args.fractions, args.seed, groups, images.classes)
    named = {name: part for name, part in zip(SPLITS, parts) if len(part)}
    out = split.write_split(images, named, args.out, args.mode)
    print(split.describe_split(images, named))
    if groups is not None:
        print(f'{len(set(groups))} groups, each in one split only')
    for each in split.empty_classes(images, named):
        print(f'warning: no image of {each}', file=sys.stderr)
    print(f'\nin {out}; for the config:\n' + _snippet(images, out, args.mode))


def _snippet(images, out: Path, mode: str) -> str:
    if mode == 'list':
        return (f"dataset = dict(type='CustomDataset', data_prefix={str(images.root.resolve())!r},\n"
                f"               ann_file={str(out.resolve() / 'train.txt')!r},\n"
                f"               metainfo=dict(classes={tuple(images.classes)!r}))")
    suffixes = sorted({Path(name).suffix.lower() for name in images.files})
    return (f"dataset = dict(type='CustomDataset', data_prefix={str(out.resolve() / 'train')!r},\n"
            f"               extensions={tuple(suffixes)!r})")
