"""``vitdet check``: check every annotation and every image of a data set."""

import argparse
import json
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from vitdet_plugin.cli.arguments import parse
from vitdet_plugin.cli.checks import check_at_least
from vitdet_plugin.cli.process import run
from vitdet_plugin.utils.text import counted, escape

DESCRIPTION = """Check every annotation and every image of a data set.

check FOLDER|ARCHIVE                    a data set in any format that vitdet init reads
check RUN                               the splits of a folder that vitdet init has written
check ANNOTATIONS.json --images DIR     a COCO file and its images
check LIST.txt --images DIR             a list file of mmpretrain ("path label" on each line) and its images
check --config CONFIG [--split val]     the data sets of a config

Exit status 0: no errors (there may be warnings and notes); 1: errors found; 2: the check could not run."""


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description=DESCRIPTION,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('path', nargs='?', metavar='FILE|FOLDER',
                        help='folder of a data set or of vitdet init, COCO annotation file, or list file')
    parser.add_argument('--images', metavar='DIR', help='folder of the images (default: that of the file)')
    parser.add_argument('--format', metavar='NAME', help='format of the data set in FOLDER, if several fit')
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
    from vitdet_plugin.datasets.archives import unpacked
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.utils.output_files import write_text
    from vitdet_plugin.utils.paths import check_output_path
    if bool(args.path) == bool(args.config):
        raise UserError('give an annotation file, the folder of a data set, or --config CONFIG')
    check_at_least(args, jobs=1, examples=0)
    if args.json:
        check_output_path('--json', args.json, is_folder=False, suffixes=('.json',))
    given = Path(args.path or '')
    with unpacked(given) as path:
        args.path = args.path and str(path)
        _check_options_of_path(args)
        findings = _check(args, is_trusted=path == given)
    errors = print_findings(findings, args.examples)
    if args.json:
        keys = ('level', 'kind', 'where')
        write_text(args.json, json.dumps([dict(zip(keys, each)) for each in findings], indent=1))
    return int(errors > 0)


def _check_options_of_path(args: argparse.Namespace) -> None:
    from vitdet_plugin.errors import UserError
    if args.images and (args.config or os.path.isdir(args.path)):
        raise UserError(f'--images {args.images} is for an annotation file; leave it out for a folder or a config')
    if args.images and not os.path.isdir(args.images):
        raise UserError(f'--images {args.images} is not a folder; give the folder of the images')
    if args.format and not (args.path and os.path.isdir(args.path)):
        raise UserError(f'--format {args.format} is for the folder of a data set; leave it out')


def _check(args: argparse.Namespace, is_trusted: bool) -> list[tuple[str, str, str]]:
    from vitdet_plugin.datasets.checks import whole_set
    if args.config:
        return whole_set.check_config(args.config, args.split, args.jobs)
    if os.path.isdir(args.path):
        return whole_set.check_folder(args.path, args.jobs, args.format, is_trusted)
    folder = args.images or os.path.dirname(args.path)
    if args.path.endswith('.txt') and os.path.isfile(args.path):
        return whole_set.check_list_file(args.path, folder, args.jobs)
    return whole_set.check_coco_set(args.path, folder, args.jobs)


def print_findings(findings: list[tuple[str, str, str]], examples: int) -> int:
    """Print the findings of each kind in one line with up to ``examples`` of their places, 0 for all.

    Returns:
        The number of errors.
    """
    groups = defaultdict(list)
    for level, kind, where in findings:
        if level in ('read', 'skipped'):
            print(escape(f'{"read" if level == "read" else "not read"}: {kind}: {where}'))
        else:
            groups[level, kind].append(where)
    words = dict(error='error', drop='left out', warning='warning', note='note')
    for level in words:
        for (found, kind), where in groups.items():
            if found == level:
                shown = where[:examples or None]
                more = f' … and {len(where) - len(shown)} more' if len(where) > len(shown) else ''
                print(escape(f'{words[level]}: {len(where)} x {kind}: {"; ".join(shown)}{more}'))
    errors = sum(level == 'error' for level, _, _ in findings)
    levels = {level for level, _, _ in findings}
    none = 'no errors' + ' in what was read' * ('skipped' in levels) if 'read' in levels else 'nothing was checked'
    print(counted(errors, 'error') if errors else none)
    return errors
