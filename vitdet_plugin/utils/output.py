"""Context managers that suppress the messages of libraries."""

import contextlib
import io
import logging
from collections.abc import Iterator


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
