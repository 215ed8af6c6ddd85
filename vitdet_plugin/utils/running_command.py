"""The command line of the running program."""

import shlex
import sys
from pathlib import Path


def running_command() -> str:
    """Return the command line, with quotes where a shell needs them; the program is named without its folder."""
    program = Path(sys.argv[0]).name if sys.argv else 'python'
    return shlex.join(['vitdet' if program == '__main__.py' else program, *sys.argv[1:]])
