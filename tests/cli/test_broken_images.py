"""OpenCV's own messages about images that cannot be read are not printed by the commands."""

import os
import subprocess
import sys

from tests.end_to_end.tiny_set import ROOT

_PROGRAM = """
import argparse, os
from vitdet_plugin.cli.arguments import parse
parse(argparse.ArgumentParser(), [])
import cv2, numpy as np
content = cv2.imencode('.png', np.zeros((64, 64, 3), np.uint8))[1]
cv2.imdecode(content[:len(content) // 2], cv2.IMREAD_COLOR)
content = cv2.imencode('.bmp', np.zeros((64, 64, 3), np.uint8))[1]
cv2.imdecode(content[:len(content) // 2], cv2.IMREAD_COLOR)
cv2.imread('no such file')
"""


def test_opencv_is_quiet():
    environ = {name: value for name, value in os.environ.items() if name != 'OPENCV_LOG_LEVEL'}
    done = subprocess.run([sys.executable, '-c', _PROGRAM], capture_output=True, text=True, cwd=ROOT, env=environ)
    assert (done.returncode, done.stderr) == (0, '')
