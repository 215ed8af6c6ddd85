#!/usr/bin/env python
"""The same as ``vitdet goldens``."""

import sys

import _checkout  # noqa: F401

from vitdet_plugin.cli.goldens import main

if __name__ == '__main__':
    sys.exit(main())
