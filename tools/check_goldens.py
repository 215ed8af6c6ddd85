#!/usr/bin/env python
"""Compare this project with reference figures of the official implementations: one line a case."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def check(path: Path, skip_unknown: bool) -> tuple[str, str]:
    """Run one case: ('ok' | 'FAILED' | 'skipped', what to say about it)."""
    from tests.parity.goldens import KINDS, Case, run_case
    from vitdet_plugin.errors import UserError
    try:
        if skip_unknown and Case.read(path).kind not in KINDS:
            return 'skipped', 'unknown kind'
        verdict = run_case(path)
    except UserError as error:
        return 'FAILED', str(error)
    except Exception as error:  # a case that does not fit its kind must not keep the others from running
        return 'FAILED', ' '.join(f'{path}: {type(error).__name__}: {error}'.split())
    if not verdict.errors:
        return 'FAILED', f'{path}: nothing to compare'
    worst = verdict.worst
    return ('ok' if verdict.passed else 'FAILED',
            f'largest error {verdict.errors[worst]:.2e} in {worst}, tolerance {verdict.tolerances[worst]:.0e}, '
            f'{len(verdict.errors)} quantities')


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('root', type=Path, metavar='DIR', help='a folder of case folders, or one case folder')
    parser.add_argument('--skip-unknown', action='store_true', help='pass over kinds that are not supported yet')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    import tests.parity  # noqa: F401  registers the kinds
    from tests.parity.goldens import find_cases

    cases = list(find_cases(args.root))
    if not cases:
        print(f'error: {args.root} holds no case (a folder with case.json)', file=sys.stderr)
        return 2
    failures = 0
    for path in cases:
        verdict, line = check(path, args.skip_unknown)
        failures += verdict == 'FAILED'
        print(f'{path.name:32} {verdict:7} {line}')
    print(f'{len(cases)} cases, {failures} failed')
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
