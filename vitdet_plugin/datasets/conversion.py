"""What the conversions between annotation formats share: problems with their places, COCO content, new files only."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from vitdet_plugin.datasets.image_suffixes import IMAGE_SUFFIXES
from vitdet_plugin.errors import UserError


@dataclass(frozen=True)
class Problem:
    """A row, or a whole file, that cannot be converted."""

    file: Path
    line: int | None
    text: str

    def __str__(self) -> str:
        return f'{self.file}:{self.line}: {self.text}' if self.line else f'{self.file}: {self.text}'


@dataclass
class Content:
    """Pictures with their objects, on the way from one format to another."""

    classes: list[str]
    images: list[dict] = field(default_factory=list)  # COCO's: id, file_name, width, height
    annotations: list[dict] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what was done besides, in counts

    def add_object(self, image: dict, label: int, box: Sequence[float], **more) -> None:
        """An object of class ``classes[label]`` with the box x, y, width, height in pixels."""
        self.annotations.append(dict(
            id=len(self.annotations) + 1, image_id=image['id'], category_id=label + 1,
            bbox=[round(value, 4) for value in box], area=round(box[2] * box[3], 4), iscrowd=0, **more))

    def coco(self, images: Iterable[dict] | None = None) -> dict:
        """COCO's content, of some of the pictures only where they are given."""
        images = self.images if images is None else list(images)
        chosen = {image['id'] for image in images}
        return dict(images=images, annotations=[a for a in self.annotations if a['image_id'] in chosen],
                    categories=[dict(id=i, name=name) for i, name in enumerate(self.classes, 1)])


def picture_size(path: Path) -> tuple[int, int] | str:
    """Width and height from the file's header, or what is wrong with the file."""
    try:
        with Image.open(path) as picture:
            return picture.size
    except FileNotFoundError:
        return 'the picture does not exist'
    except (UnidentifiedImageError, OSError) as error:
        return f'no readable picture ({str(error).splitlines()[0]})'


def find_picture(folder: Path, stem: str) -> Path | None:
    """The picture of this name in a folder, whatever its suffix."""
    for suffix in IMAGE_SUFFIXES:
        for spelling in (suffix, suffix.upper()):
            if (path := folder / f'{stem}{spelling}').is_file():
                return path
    return None


def check_box(box: Sequence[float], size: tuple[int, int], clip: bool = False,
              slack: float = 1e-3) -> tuple[list[float], str | None]:
    """Corners x1, y1, x2, y2 in pixels, and what is wrong with them.

    ``clip`` moves what is outside the picture to its edge; ``slack`` is the rounding that is tolerated.
    """
    width, height = size
    if not all(math.isfinite(value) for value in box):
        return list(box), f'box {_numbers(box)} is not finite'
    x1, y1, x2, y2 = box
    outside = x1 < -slack or y1 < -slack or x2 > width + slack or y2 > height + slack
    if outside and not clip:
        return list(box), f'box {_numbers(box)} reaches beyond the picture of {width} x {height} (--clip cuts it)'
    x1, x2 = (min(max(value, 0.0), float(width)) for value in (x1, x2))
    y1, y2 = (min(max(value, 0.0), float(height)) for value in (y1, y2))
    if x2 <= x1 or y2 <= y1:
        return [x1, y1, x2, y2], f'box {_numbers(box)} has no area'
    return [x1, y1, x2, y2], None


def _numbers(values: Sequence[float]) -> str:
    return '(' + ', '.join(f'{value:g}' for value in values) + ')'


def read_classes(source: str) -> list[str]:
    """Class names from ``a,b,c``, a text file of one a line, or the ``names`` of a YOLO data set's yaml.

    Raises:
        UserError: the file is missing or of another kind.
    """
    path = Path(source)
    if path.suffix in ('.yaml', '.yml', '.txt', '.names') and not path.is_file():
        raise UserError(f'--classes: {path} does not exist')
    if path.suffix in ('.yaml', '.yml'):
        import yaml
        try:
            names = (yaml.safe_load(path.read_text(encoding='utf-8')) or {}).get('names')
        except (yaml.YAMLError, AttributeError) as error:
            raise UserError(f'--classes: {path} is no yaml of a data set ({str(error).splitlines()[0]})') from None
        if isinstance(names, dict):
            if sorted(names) != list(range(len(names))):
                raise UserError(f'--classes: the keys of names in {path} are not 0 to {len(names) - 1}')
            names = [names[i] for i in range(len(names))]
        if not isinstance(names, list):
            raise UserError(f'--classes: {path} has no list of names')
        names = [str(name) for name in names]
    elif path.suffix in ('.txt', '.names'):
        names = [line.strip() for line in path.read_text(encoding='utf-8').splitlines() if line.strip()]
    else:
        names = [name.strip() for name in source.split(',') if name.strip()]
    if not names or len(set(names)) < len(names):
        raise UserError(f'--classes {source}: {"a name occurs twice" if names else "no names"}')
    return names


def read_coco(path: Path) -> dict:
    """A COCO file.

    Raises:
        UserError: missing, not JSON, or without images, annotations and categories.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        raise UserError(f'{path} does not exist') from None
    except ValueError as error:
        raise UserError(f'{path} is not valid JSON: {error}') from None
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list)
                                                for key in ('images', 'annotations', 'categories')):
        raise UserError(f'{path} is no COCO file: it needs the lists images, annotations and categories')
    return content


def write_new(files: dict[Path, str]) -> None:
    """Write texts to files, none of which may exist.

    Raises:
        UserError: one of them exists; nothing is written then.
    """
    if existing := [str(path) for path in files if path.exists()]:
        raise UserError(f'{existing[0]} exists{_more(existing)}; remove it or choose another --out')
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open('x', encoding='utf-8') as file:
            file.write(text)


def _more(names: Sequence[str]) -> str:
    return f', as do {len(names) - 1} more' if len(names) > 1 else ''
