"""Common parts of the conversions between annotation formats: problems, image sizes, boxes, class names, output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vitdet_plugin.datasets.coco import read_coco  # noqa: F401 - imported from here by the command
from vitdet_plugin.datasets.image_probe import ImageProbe, UnreadableImage, decoder_limits, probe_image
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.class_names import read_class_names
from vitdet_plugin.utils.text import escape, is_unicode
from vitdet_plugin.utils.text_files import read_text

_SLACK = 1e-3  # rounding error of coordinates to accept, in pixels


@dataclass(frozen=True)
class Problem:
    """A row or a whole file that cannot be converted."""

    file: Path
    line: int | None
    text: str

    def __str__(self) -> str:
        return escape(f'{self.file}:{self.line}: {self.text}' if self.line else f'{self.file}: {self.text}')


def probe_header(path: Path) -> ImageProbe | str:
    """Return the properties of an image file from its header, as training reads it, or the error."""
    with decoder_limits():
        found = probe_image(path, decode=False)
    return f'the image {found}' if isinstance(found, UnreadableImage) else found


def read_image_size(path: Path) -> tuple[int, int] | str:
    """Return (width, height) in pixels as training reads the file, from its header, or the error."""
    found = probe_header(path)
    return found if isinstance(found, str) else found.size_as_read


def list_some(names: Sequence[str], shown: int = 3) -> str:
    """Return the first few names, and a mark if there are more."""
    return ', '.join(names[:shown]) + (', …' if len(names) > shown else '')


def check_box(box: Sequence[float], size: tuple[float, float], clip: bool = False) -> tuple[list[float], str | None]:
    """Check a box against the size of its image.

    Args:
        box: Corners (x1, y1, x2, y2) in pixels.
        size: (width, height) of the image in pixels.
        clip: Move corners outside the image to its edge instead of reporting them.

    Returns:
        The box within the image, and its fault or None.
    """
    width, height = size
    if not all(math.isfinite(value) for value in box):
        return list(box), f'box {_format_numbers(box)} is not finite'
    x1, y1, x2, y2 = box
    outside = x1 < -_SLACK or y1 < -_SLACK or x2 > width + _SLACK or y2 > height + _SLACK
    if outside and not clip:
        return list(box), f'box {_format_numbers(box)} reaches beyond the image of {width} x {height} (--clip cuts it)'
    x1, x2 = (min(max(value, 0.0), float(width)) for value in (x1, x2))
    y1, y2 = (min(max(value, 0.0), float(height)) for value in (y1, y2))
    if x2 <= x1 or y2 <= y1:
        return [x1, y1, x2, y2], f'box {_format_numbers(box)} has no area'
    return [x1, y1, x2, y2], None


def _format_numbers(values: Sequence[float]) -> str:
    return '(' + ', '.join(f'{value:g}' for value in values) + ')'


def check_class_names(names: Sequence[str], where: Path) -> None:
    r"""Check that files can hold the class names of a data set.

    Raises:
        UserError: One is not UTF-8, as the name of a folder, or not valid Unicode text, as ``"\ud800"`` of JSON.
    """
    if wrong := [name for name in names if not is_unicode(name)]:
        raise UserError(f'{where}: the class name {wrong[0]!a} is not UTF-8; correct it in the annotations, or rename '
                        'the folder of the class')


def read_classes(source: str) -> list[str]:
    """Read class names from ``a,b,c``, a text file with one per line, or ``names`` in the yaml of a YOLO data set.

    Raises:
        UserError: The file is missing or has another format, or a name occurs twice.
    """
    path = Path(source)
    if path.suffix in ('.yaml', '.yml', '.txt', '.names') and not path.is_file():
        raise UserError(f'--classes: {path} does not exist')
    if path.suffix in ('.yaml', '.yml'):
        names = _names_in_yaml(path)
    elif path.suffix in ('.txt', '.names'):
        names = read_class_names(path)
    else:
        names = [name.strip() for name in source.split(',') if name.strip()]
    if not names or len(set(names)) < len(names):
        raise UserError(f'--classes {source}: {"a name occurs twice" if names else "no names"}')
    return names


def _names_in_yaml(path: Path) -> list[str]:
    import yaml
    try:
        # every scalar stays a text: a class may be called yes, no, null or 012
        content = yaml.load(read_text(path), Loader=yaml.BaseLoader)
        names, count = content.get('names'), content.get('nc')
    except (yaml.YAMLError, AttributeError) as error:
        raise UserError(f'--classes: {path} is not the yaml of a data set ({str(error).splitlines()[0]})') from None
    if isinstance(names, dict):
        if sorted(names) != sorted(map(str, range(len(names)))):
            raise UserError(f'--classes: the keys of names in {path} are not 0 to {len(names) - 1}')
        names = [names[str(i)] for i in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f'--classes: {path} has no list of names')
    if count is not None and count != str(len(names)):
        raise UserError(f'--classes: {path}: nc is {count}, but names has {len(names)}: {list_some(names)}; correct '
                        'one of them')
    return names


def write_new(files: dict[Path, str]) -> None:
    """Write texts to new files; a file that has the text already is left as it is.

    Raises:
        UserError: One of them exists with another content; nothing is written then.
    """
    kept = {path for path, text in files.items() if path.is_file() and path.read_bytes() == text.encode()}
    if existing := [str(path) for path in files if path.exists() and path not in kept]:
        more = f', as do {len(existing) - 1} more' if len(existing) > 1 else ''
        raise UserError(f'{existing[0]} exists{more}; remove it or choose another --out')
    for path, text in files.items():
        if path in kept:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open('x', encoding='utf-8') as file:
            file.write(text)
