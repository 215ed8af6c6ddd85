#!/usr/bin/env python
"""The same as ``vitdet convert {to-coco,voc-to-coco,yolo-to-coco,coco-to-yolo,coco-to-voc}``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import _checkout  # noqa: F401

from vitdet_plugin.cli.convert_dataset import main

if __name__ == '__main__':
    sys.exit(main())
