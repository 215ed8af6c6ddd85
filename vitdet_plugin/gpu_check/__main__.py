"""Run one part: the process that :func:`vitdet_plugin.gpu_check.parts.run_part` starts."""

import sys
from pathlib import Path

from vitdet_plugin.gpu_check.parts import write
from vitdet_plugin.gpu_check.results import Settings

if __name__ == '__main__':
    part, settings, output = sys.argv[1:]
    write(part, Settings.loads(settings), Path(output))
