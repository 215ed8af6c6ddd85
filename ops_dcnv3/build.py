"""Compile DCNv3 into a cache outside the checkout: ``python -m ops_dcnv3.build [--cuda] [--quiet]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from vitdet_plugin.ops import build

_PROGRAM = 'ops_dcnv3.build'


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    return build.build_parser(_PROGRAM)


def main(argv: Sequence[str] | None = None) -> int:
    """Build DCNv3's library; return 1 if it failed, unless ``--quiet``."""
    return build.main(argv, libraries=['dcnv3'], program=_PROGRAM)


if __name__ == '__main__':
    sys.exit(main())
