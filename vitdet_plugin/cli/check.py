"""``vitdet check``: check every annotation and every image of a data set."""

import argparse
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from vitdet_plugin.cli.common import parse, run

DESCRIPTION = """Check every annotation and every image of a data set.

check ANNOTATIONS.json --images DIR     a COCO file and its images
check FOLDER                            one folder per class
check --config CONFIG [--split val]     the data sets of a config

Exit status 0: no errors (there may be warnings and notes); 1: errors found; 2: the check could not run."""


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description=DESCRIPTION,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('path', nargs='?', metavar='FILE|FOLDER', help='COCO annotation file, or folder of classes')
    parser.add_argument('--images', metavar='DIR', help='folder of the images (default: that of the file)')
    parser.add_argument('--config', help='check the data sets of this config instead')
    parser.add_argument('--split', choices=('train', 'val', 'test'), default='train', help='split of --config')
    parser.add_argument('--jobs', type=int, default=os.cpu_count(), metavar='N', help='processes that read images')
    parser.add_argument('--examples', type=int, default=3, metavar='N',
                        help='examples printed per type of finding (default: 3); 0: all')
    parser.add_argument('--json', metavar='FILE', help='also write all findings as JSON')
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    return run(parse(build_parser(prog), argv), check_command)


def check_command(args: argparse.Namespace) -> int:
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.utils.paths import check_output_path
    if bool(args.path) == bool(args.config):
        raise UserError('give an annotation file, a folder of classes, or --config CONFIG')
    if args.json:
        check_output_path('--json', args.json, is_folder=False)
    findings = [each for check in _checks(args) for each in check]
    _report(findings, args.examples)
    if args.json:
        keys = ('level', 'kind', 'where')
        Path(args.json).write_text(json.dumps([dict(zip(keys, each)) for each in findings], indent=1))
    return int(any(level == 'error' for level, _, _ in findings))


def _checks(args: argparse.Namespace) -> Iterator:
    from vitdet_plugin.datasets.checks.whole_set import check_class_folders, check_coco_set, sets_of_config
    if args.config:
        for ann_file, folder, reader in sets_of_config(args.config, args.split):
            yield (check_coco_set(ann_file, folder, args.jobs, reader) if ann_file else
                   check_class_folders(folder, args.jobs, reader))
    elif os.path.isdir(args.path):
        yield check_class_folders(args.path, args.jobs)
    else:
        yield check_coco_set(args.path, args.images or os.path.dirname(args.path), args.jobs)


def _report(findings: list[tuple[str, str, str]], examples: int) -> None:
    groups = defaultdict(list)
    for level, kind, where in findings:
        groups[level, kind].append(where)
    words = dict(error='error', drop='left out', warning='warning', note='note')
    for level in words:
        for (found, kind), where in groups.items():
            if found == level:
                shown = where[:examples or None]
                more = f' … and {len(where) - len(shown)} more' if len(where) > len(shown) else ''
                print(f'{words[level]}: {len(where)} x {kind}: {"; ".join(shown)}{more}')
    for level, kind, where in findings:
        if level == 'read':
            print(f'read: {kind} of {where}')
    errors = sum(level == 'error' for level, _, _ in findings)
    print(f'{errors} errors' if errors > 1 else '1 error' if errors else 'no errors')
