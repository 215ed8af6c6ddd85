"""Run benchmarks and print one table: python -m benchmarks [NAME…] [--rows TEXT…] [--csv] [--json FILE] …"""

import argparse
import importlib
import json
import pkgutil
import sys
import time
from pathlib import Path

import benchmarks
from benchmarks import recording
from benchmarks.harness import CLOCKS, Row, is_selected, select_rows, use_clock

_COLUMNS = [('path', 46), ('reference form', 38), *((clock, 7) for clock in CLOCKS), ('spread', 7), ('memory', 7),
            ('goal', 15), ('reached', 8), ('difference', 11), ('values', 0)]


def find(package=benchmarks) -> dict[str, object]:
    """Return every module of the package that defines ``rows``, by name."""
    names = [module.name for module in pkgutil.iter_modules(package.__path__) if module.name != '__main__']
    modules = {name: importlib.import_module(f'{package.__name__}.{name}') for name in names}
    return {name: module for name, module in modules.items() if callable(getattr(module, 'rows', None))}


def format_row(row: Row) -> str:
    goals = [f'{row.time_goal:g}x' if row.time_goal else '', f'1/{row.memory_goal:g}' if row.memory_goal else '']
    reached = {None: '-', True: 'yes', False: 'no'}[row.reached]
    measured = row.timing
    times = ['-'] * (len(CLOCKS) + 1) if measured is None else \
        [*(f'{measured.ratios[clock]:.2f}x' for clock in CLOCKS), f'{100 * measured.spread:.0f} %']
    cells = [row.path, row.reference, *times, '-' if row.memory_ratio is None else f'1/{row.memory_ratio:.1f}',
             ', '.join(filter(None, goals)) or '-', reached,
             f'{row.difference:.1e}' if row.same_numbers else 'DIFFERS', row.note]
    return _line(cells)


def _line(cells: list[str]) -> str:
    return '  '.join(cell.ljust(width) for cell, (_, width) in zip(cells, _COLUMNS)).rstrip()


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='python -m benchmarks', description=__doc__)
    parser.add_argument('names', nargs='*', metavar='NAME', help='benchmarks to run (default: all)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the rows to this file, too')
    parser.add_argument('--csv', type=Path, metavar='FILE', nargs='?', const=recording.default_file(),
                        help='append the rows to this file, too (default: %(const)s)')
    parser.add_argument('--quick', action='store_true', help='small sizes: checks only that it runs')
    parser.add_argument('--clock', choices=('wall', 'cpu'), default='wall',
                        help='time to which goals apply; cpu: of all threads, for a busy machine (default: wall)')
    parser.add_argument('--rows', nargs='+', default=[], metavar='TEXT',
                        help='only the rows whose path (the first column) contains one of these texts')
    parser.add_argument('--list', action='store_true', help='list the benchmarks and exit')
    return parser


def main(argv: list[str] | None = None, package=benchmarks) -> int:
    """Return the exit status: 0; 1 if the results of a row differ from its reference; 2 for a usage error."""
    args = build_parser().parse_args(argv)
    modules = find(package)
    unknown = [name for name in args.names if name not in modules]
    if unknown:
        print(f'error: no benchmark named {", ".join(unknown)}; choose from: {", ".join(modules)}', file=sys.stderr)
        return 2
    if args.list:
        for name, module in modules.items():
            print(f'{name:<12} {(module.__doc__ or "").strip().splitlines()[0]}')
        return 0
    for option, file in (('--json', args.json), ('--csv', args.csv)):
        if file and not file.resolve().parent.is_dir():
            print(f'error: {option} {file}: its folder does not exist; create it first', file=sys.stderr)
            return 2
    if args.csv and (problem := recording.why_not_append(args.csv)):
        print(f'error: --csv {args.csv}: {problem}', file=sys.stderr)
        return 2
    use_clock(args.clock)
    select_rows(args.rows)
    environment = recording.environment()
    print(', '.join(f'{key} {value}' for key, value in environment.items() if value), f'(goals: {args.clock} time)')
    print(f'load before: {recording.load()}')
    print(_line([name for name, _ in _COLUMNS]), flush=True)
    done, start = [], time.perf_counter()
    for name in args.names or modules:
        row_start = time.perf_counter()
        for row in modules[name].rows(args.quick):
            now = time.perf_counter()
            seconds, row_start = now - row_start, now
            if row is None or not is_selected(row.path):
                continue
            print(format_row(row), flush=True)
            done.append({'benchmark': name, **row.as_dict(), 'row_seconds': round(seconds, 2),
                         'load': recording.load().split()[0]})
            if args.csv:  # after each row, so that a run that is stopped keeps what it measured
                recording.append(args.csv, environment, [{'clock': args.clock, 'quick': args.quick, **done[-1]}])
    print(f'load after: {recording.load()}; {(time.perf_counter() - start) / 60:.1f} minutes')
    if not done:
        print(f'error: no row has {" or ".join(args.rows)} in its path; omit --rows to run all', file=sys.stderr)
        return 2
    if args.json:
        content = {'environment': environment, 'clock': args.clock, 'quick': args.quick, 'rows': done}
        args.json.write_text(json.dumps(content, indent=2) + '\n')
    return 0 if all(row['same_numbers'] for row in done) else 1


if __name__ == '__main__':
    sys.exit(main())
