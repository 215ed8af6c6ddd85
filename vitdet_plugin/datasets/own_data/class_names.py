"""Names for the classes of a data set that states numbers only."""

from __future__ import annotations

import re
from pathlib import Path

from vitdet_plugin.datasets.formats.base import SourceSet
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.class_names import read_class_names

_NUMBERED = re.compile(r'class (\d+)')


def name_classes(source: SourceSet, text: str) -> None:
    """Name the classes ``class 0``, ``class 1``, … of a data set.

    Args:
        source: The data set, which is changed.
        text: Names separated by commas, or a text file with a name in each line, the first for class 0.

    Raises:
        UserError: The data set states names, or a class has none of the given ones.
    """
    path = Path(text).expanduser()
    names = read_class_names(path) if path.is_file() else [name.strip() for name in text.split(',') if name.strip()]
    found = {name: _NUMBERED.fullmatch(name) for name in source.classes}
    if stated := [name for name, match in found.items() if match is None]:
        raise UserError(f'--classes {text}: the data set states the names of its classes ({", ".join(stated[:5])}); '
                        'leave it out')
    if len(set(names)) < len(names):
        raise UserError(f'--classes {text}: a name occurs twice; give a name for each class')
    if missing := [name for name, match in found.items() if match and int(match[1]) >= len(names)]:
        raise UserError(f'--classes {text}: {len(names)} names, but the data set has {missing[-1]}, counted from 0')
    new = {name: names[int(match[1])] for name, match in found.items() if match}
    source.classes = names
    for image in source.images:
        image.label = None if image.label is None else new[image.label]
        for each in image.objects:
            each.name = new[each.name]
