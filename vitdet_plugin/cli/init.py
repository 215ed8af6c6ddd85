"""``vitdet init``: reserved for a command that creates a config for a data set."""

import argparse
import sys
from collections.abc import Sequence


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog=prog, description='Create a config for your data. Not available yet.')


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    build_parser(prog).parse_known_args(argv)
    print('error: vitdet init is not available yet; start from a shipped config: _base_ = '
          "'vitdet_plugin::vitdet_100e.py'", file=sys.stderr)
    return 2
