#!/usr/bin/env python
"""The same as ``vitdet demo``, in this checkout (`make demo`)."""

import os
import sys

from _checkout import ROOT

from vitdet_plugin.cli.demo import main

if __name__ == '__main__':
    os.chdir(ROOT)
    sys.exit(main())
