#!/usr/bin/env python
"""The same as ``vitdet weights``."""

import sys

import _checkout  # noqa: F401

from vitdet_plugin.cli.weights import main

if __name__ == '__main__':
    sys.exit(main())
