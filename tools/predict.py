#!/usr/bin/env python
"""The same as ``vitdet predict``."""

import _checkout  # noqa: F401

from vitdet_plugin.cli.predict import main
from vitdet_plugin.cli.process import leave

if __name__ == '__main__':
    leave(main())
