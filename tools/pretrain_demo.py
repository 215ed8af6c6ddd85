#!/usr/bin/env python
"""The same as ``vitdet demo pretrain``; default paths are in this checkout."""

import functools
import sys

from _checkout import ROOT

from vitdet_plugin.cli import pretrain_demo

main = functools.partial(pretrain_demo.main, root=ROOT)

if __name__ == '__main__':
    sys.exit(main())
