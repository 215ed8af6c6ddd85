#!/usr/bin/env python
"""The same as ``vitdet predict``."""

import _checkout  # noqa: F401

from vitdet_plugin.cli.common import leave
from vitdet_plugin.cli.predict import main

if __name__ == '__main__':
    leave(main())
