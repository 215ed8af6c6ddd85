"""Context managers that keep the messages of libraries off the terminal."""

import contextlib
import io
import logging
from collections.abc import Iterator


def suppress_output() -> contextlib.redirect_stdout:
    """Return a context that discards what is printed: pycocotools and the OpenMMLab forks report every step."""
    return contextlib.redirect_stdout(io.StringIO())


@contextlib.contextmanager
def suppress_logs(level: int = logging.INFO) -> Iterator[None]:
    """Discard log messages up to ``level``, which configs and constructors write about themselves."""
    before = logging.root.manager.disable
    logging.disable(level)
    try:
        yield
    finally:
        logging.disable(before)
