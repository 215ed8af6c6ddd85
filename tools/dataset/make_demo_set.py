#!/usr/bin/env python
"""The same as ``vitdet demo make-set``; default paths are in this checkout."""

import functools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _checkout import ROOT

from vitdet_plugin.cli import make_demo_set

main = functools.partial(make_demo_set.main, root=ROOT)

if __name__ == '__main__':
    sys.exit(main())
