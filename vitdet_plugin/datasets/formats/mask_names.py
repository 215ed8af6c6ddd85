"""Names of the values of masks of classes, from a text file next to them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from vitdet_plugin.datasets.formats.files import load_text
from vitdet_plugin.datasets.formats.tree import FileTree

_FILES = ('labelmap.txt', 'class_names.txt', 'classes.txt', 'label_names.txt', 'labels.txt', 'names.txt',
          'labelmap.csv', 'class_dict.csv', 'label_colors.txt')
_BACKGROUND = ('background', '_background_', '__background__', 'bg', 'unlabeled')
_IGNORED = ('__ignore__', 'ignore', 'void')


@dataclass
class ValueNames:
    """Names by value or color; empty without a file.

    Attributes:
        file: The file they are from.
        names: Name of each value.
        colors: Name of each color as red * 65536 + green * 256 + blue.
    """

    file: PurePosixPath | None = None
    names: dict[int, str] = field(default_factory=dict)
    colors: dict[int, str] = field(default_factory=dict)

    def covers(self, values: Iterable[int], is_color: bool) -> bool:
        """Whether there are several names, and one for each of the values."""
        names = self.colors if is_color else self.names
        return len(names) > 1 and all(value in names for value in values)

    def name_of(self, value: int, is_color: bool) -> str | None:
        """Return the name of a value; None if a file states the names and not this one."""
        if is_color:
            text = f'color_{value >> 16}_{value >> 8 & 255}_{value & 255}'
            return self.colors.get(value, None if self.colors else text)
        return self.names.get(value, None if self.names else f'class_{value}')


def read_value_names(tree: FileTree) -> ValueNames:
    """Read the names from a list, a line each, or from a list with a color for each name, as ``labelmap.txt`` of CVAT.

    In a list with the name of the background the first line is value 0, otherwise value 1.
    """
    texts = tree.with_suffix('.txt', '.csv')
    file = next((file for name in _FILES for file in texts if file.name.lower() == name), None)
    if file is None:
        return ValueNames()
    try:
        lines = [line.strip() for line in load_text(tree, file).splitlines()]
    except ValueError:
        return ValueNames()
    lines = [line for line in lines if line and not line.startswith('#')]
    found = ValueNames(file)
    names = []
    for line in lines:
        parts = [part for part in re.split(r'[,:\s]+', line) if part]
        numbers = [int(part) for part in parts if part.isascii() and part.isdigit()]
        if len(numbers) == 3 and max(numbers) <= 255:  # cat:128,0,0:: or cat,128,0,0 or 128 0 0 cat
            line = ' '.join(part for part in parts if not part.isdigit())
            found.colors[numbers[0] << 16 | numbers[1] << 8 | numbers[2]] = line
        elif re.fullmatch(r'name,.*', line.lower()):  # a header
            continue
        names.append(line)
    names = [name for name in names if name.lower() not in _IGNORED]
    first = 0 if names and names[0].lower() in _BACKGROUND else 1
    found.names = {value: name for value, name in enumerate(names, first) if name.lower() not in _BACKGROUND}
    return found
