"""Put this checkout on the import path; the scripts in tools/ import this first."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# without tools/ and its subfolders: tools/test.py would hide Python's test, tools/export/onnx.py the package onnx
sys.path[:] = [str(ROOT)] + [entry for entry in sys.path
                             if entry != str(ROOT) and ROOT / 'tools' not in (Path(entry), *Path(entry).parents)]
