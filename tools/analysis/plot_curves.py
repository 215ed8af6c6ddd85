#!/usr/bin/env python
"""The same as ``vitdet curves``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _checkout  # noqa: F401

from vitdet_plugin.cli.curves import main

if __name__ == '__main__':
    sys.exit(main())
