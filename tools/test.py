#!/usr/bin/env python
"""The same as ``vitdet test``."""

import _checkout  # noqa: F401

from vitdet_plugin.cli.process import leave
from vitdet_plugin.cli.test import main

if __name__ == '__main__':
    leave(main())
