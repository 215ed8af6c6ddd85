"""Class names: in configs a list, or a text file with one name per line; of the labels of a model."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.text_files import read_text


def read_class_names(path: str | Path) -> list[str]:
    """Read a text file with one class name per line; blank lines, a byte order mark and outer blanks are skipped.

    Raises:
        UserError: The file is not text (see :func:`vitdet_plugin.utils.text_files.read_text`), or it holds no names.
    """
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if not names:
        raise UserError(f'{path}: the file holds no class names; write one per line')
    return names


def class_names(value: Any) -> list[str] | None:
    """Return the class names that ``metainfo.classes`` gives, or None if it gives none.

    Args:
        value: A list of names, where numbers stand for their text, or the path of a file of names.

    Raises:
        UserError: See :func:`read_class_names`.
    """
    if isinstance(value, str):
        path = os.path.expanduser(value)
        return read_class_names(path) if os.path.isfile(path) else None
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [str(name) for name in value]
    return None


def name_of_label(label: int, classes: Sequence[str] | None) -> str:
    """Return the name of a label; ``class 7`` for one that has none, as in a model with more outputs than names."""
    return classes[label] if classes and label < len(classes) else f'class {label}'
