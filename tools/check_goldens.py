#!/usr/bin/env python
"""Compare this project with reference figures of the official implementations: one line a case."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('root', type=Path, metavar='DIR', help='a folder of case folders, or one case folder')
    parser.add_argument('--skip-unknown', action='store_true', help='pass over kinds that are not supported yet')
    args = parser.parse_args()

    import vitdet_plugin  # noqa: F401  registers the kinds
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.evaluation.goldens import KINDS, Case, find_cases, run_case

    cases = list(find_cases(args.root))
    if not cases:
        print(f'error: {args.root} holds no case (a folder with case.json)', file=sys.stderr)
        return 2
    failures = 0
    for path in cases:
        try:
            if args.skip_unknown and Case.read(path).kind not in KINDS:
                print(f'{path.name:32} skipped, unknown kind')
                continue
            verdict = run_case(path)
        except UserError as error:
            print(f'{path.name:32} FAILED  {error}')
            failures += 1
            continue
        worst = verdict.worst
        failures += not verdict.passed
        print(f'{path.name:32} {"ok    " if verdict.passed else "FAILED"}  largest error {verdict.errors[worst]:.2e} '
              f'in {worst}, tolerance {verdict.tolerances[worst]:.0e}, {len(verdict.errors)} quantities')
    print(f'{len(cases)} cases, {failures} failed')
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
