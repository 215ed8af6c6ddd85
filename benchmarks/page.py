"""Write the tables of docs/benchmarks.md from a CSV file of results: python -m benchmarks.page [FILE.csv]."""

import argparse
import csv
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks import recording

PAGE = Path(__file__).resolve().parents[1] / 'docs' / 'benchmarks.md'
HEADER = '| path | compared with | seconds | wall | CPU | memory | goal |\n|---|---|---|---|---|---|---|'
MISSING = 'Not measured in this run.'
_TABLE = re.compile(r'(<!-- table: ([\w, ]+) -->\n).*?(<!-- end of table -->)', re.DOTALL)
Rows = Iterable[Mapping[str, str]]


def read(file: Path) -> list[dict[str, str]]:
    """Return the newest full-size row of each path and reference, in the order of the file."""
    with open(file, newline='') as stream:
        rows = [row for row in csv.DictReader(stream) if row['quick'] == 'False']
    return list({(row['benchmark'], row['path'], row['reference']): row for row in rows}.values())


def tables(text: str, rows: Rows) -> str:
    """Return a page with the tables between its markers replaced.

    Args:
        text: The page. ``<!-- table: NAME, NAME -->`` and ``<!-- end of table -->`` enclose the rows of benchmarks.
        rows: Rows of a CSV file with ``recording.COLUMNS``.
    """
    rows = list(rows)

    def replace(match: re.Match[str]) -> str:
        names = [name.strip() for name in match[2].split(',')]
        lines = [_line(row) for name in names for row in rows if row['benchmark'] == name]
        return match[1] + '\n'.join([HEADER, *lines] if lines else [MISSING]) + '\n' + match[3]

    return _TABLE.sub(replace, text)


def benchmarks_of(text: str) -> list[str]:
    """Return the benchmarks that the tables of a page show, in their order."""
    return [name.strip() for _, names, _ in _TABLE.findall(text) for name in names.split(',')]


def _line(row: Mapping[str, str]) -> str:
    clock = row['clock']  # elapsed time is left out if goals apply to CPU time, as the machine was busy then
    ours, reference = row[f'{clock}_ours'], row[f'{clock}_reference']
    seconds = f'{_seconds(ours)} / {_seconds(reference)}' if ours else ''
    ratios = {key: f'{float(row[f"{key}_ratio"]):.2f}x' if row[f'{key}_ratio'] else '' for key in ('wall', 'cpu')}
    if row['noisy'] == 'True':
        ratios[clock] += ', noisy'
    wall, cpu = '' if clock == 'cpu' else ratios['wall'], ratios['cpu']
    memory = _memory(float(row['memory_ratio'])) if row['memory_ratio'] else ''
    goals = [f'{float(row["time_goal"]):g}x' if row['time_goal'] else '',
             f'1/{float(row["memory_goal"]):g}' if row['memory_goal'] else '']
    goal = ', '.join(filter(None, goals))
    if goal:
        goal += ': reached' if row['reached'] == 'True' else ': **not reached**'
    if float(row['difference']) > float(row['tolerance']):
        goal = '**results differ**'
    if not ours:
        seconds = row['note']
    return '| ' + ' | '.join([row['path'], row['reference'], seconds, wall, cpu, memory, goal]) + ' |'


def _seconds(text: str) -> str:
    value = float(text)
    return f'{value:.3g} s' if value >= 1 else f'{1000 * value:.3g} ms'


def _memory(ratio: float) -> str:
    return f'1/{ratio:.1f}' if ratio >= 1 else f'{1 / ratio:.1f}x'


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='python -m benchmarks.page', description=__doc__)
    parser.add_argument('file', type=Path, metavar='FILE.csv', nargs='?', default=recording.default_file(),
                        help='results of "python -m benchmarks --csv" (default: %(default)s)')
    parser.add_argument('--page', type=Path, default=PAGE, help='page with the markers (default: %(default)s)')
    return parser


def main(argv: list[str] | None = None) -> int:
    """Return the exit status: 0; 2 for a usage error."""
    args = build_parser().parse_args(argv)
    for file in (args.file, args.page):
        if not file.is_file():
            print(f'error: {file} does not exist', file=sys.stderr)
            return 2
    args.page.write_text(tables(args.page.read_text(), read(args.file)))
    return 0


if __name__ == '__main__':
    sys.exit(main())
