"""``vitdet goldens DIR``: compare this project with reference outputs of the official implementations."""

import argparse
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from vitdet_plugin.cli.arguments import parse
from vitdet_plugin.cli.process import run


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description='Compare this project with reference outputs of the official implementations, one line '
                               'per case. Requires a source checkout.')
    parser.add_argument('root', type=Path, metavar='DIR', help='a folder of case folders, or one case folder')
    parser.add_argument('--skip-unknown', action='store_true', help='skip kinds of cases that are not supported')
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    return run(parse(build_parser(prog), argv), goldens_command)


def goldens_command(args: argparse.Namespace) -> int:
    from vitdet_plugin.errors import UserError
    checkout = Path(str(resources.files('vitdet_plugin'))).resolve().parent
    if not (checkout / 'tests' / 'parity' / 'goldens.py').is_file():
        raise UserError('vitdet goldens needs a source checkout: the installed package does not contain tests/parity')
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    import tests.parity  # noqa: F401  registers the kinds of cases
    from tests.parity.goldens import find_cases
    cases = list(find_cases(args.root))
    if not cases:
        raise UserError(f'{args.root} holds no case; give a folder with case.json, or a folder of such folders')
    failures = 0
    for path in cases:
        verdict, line = check(path, args.skip_unknown)
        failures += verdict == 'FAILED'
        print(f'{path.name:32} {verdict:7} {line}')
    print(f'{len(cases)} cases, {failures} failed')
    return 1 if failures else 0


def check(path: Path, skip_unknown: bool) -> tuple[str, str]:
    """Run one case; returns 'ok', 'FAILED' or 'skipped', and a line of explanation."""
    from tests.parity.goldens import KINDS, Case, run_case
    from vitdet_plugin.errors import UserError
    try:
        if skip_unknown and Case.read(path).kind not in KINDS:
            return 'skipped', 'unknown kind'
        verdict = run_case(path)
    except UserError as error:
        return 'FAILED', str(error)
    except Exception as error:  # a malformed case must not keep the others from running
        return 'FAILED', ' '.join(f'{path}: {type(error).__name__}: {error}'.split())
    if not verdict.errors:
        return 'FAILED', f'{path}: nothing to compare'
    worst = verdict.worst
    return ('ok' if verdict.passed else 'FAILED',
            f'largest error {verdict.errors[worst]:.2e} in {worst}, tolerance {verdict.tolerances[worst]:.0e}, '
            f'{len(verdict.errors)} quantities')
