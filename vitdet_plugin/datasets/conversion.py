"""Common parts of the conversions between annotation formats: problems, the COCO result, boxes, class names, output."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vitdet_plugin.datasets.coco import read_coco  # noqa: F401 - imported from here by the command
from vitdet_plugin.datasets.image_probe import UnreadableImage, probe_image, suppress_pillow_warnings
from vitdet_plugin.errors import UserError


@dataclass(frozen=True)
class Problem:
    """A row or a whole file that cannot be converted."""

    file: Path
    line: int | None
    text: str

    def __str__(self) -> str:
        return f'{self.file}:{self.line}: {self.text}' if self.line else f'{self.file}: {self.text}'


@dataclass
class Content:
    """Images with their objects while they are converted to COCO.

    Attributes:
        classes: Names in the order of the labels.
        images: Entries of COCO: id, file_name, width, height.
        annotations: Entries of COCO.
        problems: What could not be converted.
        notes: Other remarks, with counts.
    """

    classes: list[str]
    images: list[dict] = field(default_factory=list)
    annotations: list[dict] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add_object(self, image: dict, label: int, box: Sequence[float], **more) -> None:
        """Add an object of ``classes[label]`` with a box (x, y, width, height) in pixels."""
        self.annotations.append(dict(
            id=len(self.annotations) + 1, image_id=image['id'], category_id=label + 1,
            bbox=[round(value, 4) for value in box], area=round(box[2] * box[3], 4), iscrowd=0, **more))

    def coco(self, images: Iterable[dict] | None = None) -> dict:
        """Return the content of a COCO file, of all images or of those given."""
        images = self.images if images is None else list(images)
        chosen = {image['id'] for image in images}
        return dict(images=images, annotations=[a for a in self.annotations if a['image_id'] in chosen],
                    categories=[dict(id=i, name=name) for i, name in enumerate(self.classes, 1)])


def read_image_size(path: Path) -> tuple[int, int] | str:
    """Return (width, height) in pixels as training reads the file, from its header, or the error."""
    with suppress_pillow_warnings():
        found = probe_image(path, decode=False)
    return f'the image {found}' if isinstance(found, UnreadableImage) else found.size_as_read


def check_box(box: Sequence[float], size: tuple[float, float], clip: bool = False,
              slack: float = 1e-3) -> tuple[list[float], str | None]:
    """Check a box against the size of its image.

    Args:
        box: Corners (x1, y1, x2, y2) in pixels.
        size: (width, height) of the image in pixels.
        clip: Move corners outside the image to its edge instead of reporting them.
        slack: Rounding error to accept, in pixels.

    Returns:
        The box within the image, and its fault or None.
    """
    width, height = size
    if not all(math.isfinite(value) for value in box):
        return list(box), f'box {_format_numbers(box)} is not finite'
    x1, y1, x2, y2 = box
    outside = x1 < -slack or y1 < -slack or x2 > width + slack or y2 > height + slack
    if outside and not clip:
        return list(box), f'box {_format_numbers(box)} reaches beyond the image of {width} x {height} (--clip cuts it)'
    x1, x2 = (min(max(value, 0.0), float(width)) for value in (x1, x2))
    y1, y2 = (min(max(value, 0.0), float(height)) for value in (y1, y2))
    if x2 <= x1 or y2 <= y1:
        return [x1, y1, x2, y2], f'box {_format_numbers(box)} has no area'
    return [x1, y1, x2, y2], None


def _format_numbers(values: Sequence[float]) -> str:
    return '(' + ', '.join(f'{value:g}' for value in values) + ')'


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
        names = [line.strip() for line in path.read_text(encoding='utf-8').splitlines() if line.strip()]
    else:
        names = [name.strip() for name in source.split(',') if name.strip()]
    if not names or len(set(names)) < len(names):
        raise UserError(f'--classes {source}: {"a name occurs twice" if names else "no names"}')
    return names


def _names_in_yaml(path: Path) -> list[str]:
    import yaml
    try:
        names = (yaml.safe_load(path.read_text(encoding='utf-8')) or {}).get('names')
    except (yaml.YAMLError, AttributeError) as error:
        raise UserError(f'--classes: {path} is not the yaml of a data set ({str(error).splitlines()[0]})') from None
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise UserError(f'--classes: the keys of names in {path} are not 0 to {len(names) - 1}')
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list):
        raise UserError(f'--classes: {path} has no list of names')
    return [str(name) for name in names]


def write_new(files: dict[Path, str]) -> None:
    """Write texts to new files.

    Raises:
        UserError: One of them exists; nothing is written then.
    """
    if existing := [str(path) for path in files if path.exists()]:
        more = f', as do {len(existing) - 1} more' if len(existing) > 1 else ''
        raise UserError(f'{existing[0]} exists{more}; remove it or choose another --out')
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open('x', encoding='utf-8') as file:
            file.write(text)
