"""Suppress the messages of libraries; print warnings."""

import contextlib
import io
import logging
import sys
from collections.abc import Iterator

from vitdet_plugin.utils.ranks import is_first_rank
from vitdet_plugin.utils.text import escape


def suppress_output() -> contextlib.redirect_stdout:
    """Return a context that discards printed text; pycocotools and the OpenMMLab packages print every step."""
    return contextlib.redirect_stdout(io.StringIO())


@contextlib.contextmanager
def suppress_logs(level: int = logging.INFO) -> Iterator[None]:
    """Discard log messages up to ``level``, such as those of config files and constructors."""
    before = logging.root.manager.disable
    logging.disable(level)
    try:
        yield
    finally:
        logging.disable(before)


def warn(line: str) -> None:
    """Print a warning to standard error, on the first rank only."""
    if is_first_rank():
        print(f'warning: {escape(line)}', file=sys.stderr, flush=True)
