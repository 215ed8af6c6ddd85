#!/usr/bin/env python
"""Look at every annotation and every picture of a data set and say what is wrong.

python tools/dataset/check.py ANNOTATIONS.json --images DIR     a COCO file and its pictures
python tools/dataset/check.py FOLDER                            one folder a class
python tools/dataset/check.py --config CONFIG [--split val]     the data sets of a config

Status 0: nothing, or what only needs to be known; 1: something to mend; 2: it could not be looked at.
"""

import argparse
import json
import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _cli import parse, run, use_checkout  # noqa: E402


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('target', nargs='?', metavar='FILE|FOLDER', help='COCO annotation file, or folder of classes')
    parser.add_argument('--images', metavar='DIR', help='folder of the pictures (default: that of the file)')
    parser.add_argument('--config', help='check the data sets of this config instead')
    parser.add_argument('--split', choices=('train', 'val', 'test'), default='train', help='of --config')
    parser.add_argument('--jobs', type=int, default=os.cpu_count(), metavar='N', help='processes for the pictures')
    parser.add_argument('--examples', type=int, default=3, metavar='N', help='of each kind (default: 3); 0: all')
    parser.add_argument('--json', metavar='FILE', help='write all findings as JSON too')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(build_parser(), argv)
    use_checkout()

    def action() -> int:
        from vitdet_plugin.errors import UserError
        from vitdet_plugin.utils.paths import check_output_path
        if bool(args.target) == bool(args.config):
            raise UserError('give an annotation file, a folder of classes, or --config CONFIG')
        if args.json:
            check_output_path('--json', args.json, is_folder=False)
        findings = [each for check in _checks(args) for each in check]
        _report(findings, args.examples)
        if args.json:
            keys = ('level', 'kind', 'where')
            Path(args.json).write_text(json.dumps([dict(zip(keys, each)) for each in findings], indent=1))
        return int(any(level == 'error' for level, _, _ in findings))

    return run(action)


def _checks(args: argparse.Namespace):
    from vitdet_plugin.datasets.checks.whole_set import check_class_folders, check_coco_set, sets_of_config
    if args.config:
        for ann_file, folder in sets_of_config(args.config, args.split):
            yield check_coco_set(ann_file, folder, args.jobs) if ann_file else check_class_folders(folder, args.jobs)
    elif os.path.isdir(args.target):
        yield check_class_folders(args.target, args.jobs)
    else:
        yield check_coco_set(args.target, args.images or os.path.dirname(args.target), args.jobs)


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
    errors = sum(level == 'error' for level, _, _ in findings)
    print(f'{errors} to mend' if errors else 'nothing to mend')


if __name__ == '__main__':
    sys.exit(main())
