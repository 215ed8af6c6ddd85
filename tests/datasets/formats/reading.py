"""Write images, read a folder with the reader that recognizes it, and compare objects."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from tests.datasets.image_writer import exif
from vitdet_plugin.datasets.formats import known_formats, recognize
from vitdet_plugin.datasets.formats.base import Doubtful
from vitdet_plugin.datasets.formats.tree import FileTree

SIZE = (100, 80)
CAT, DOG = ('cat', (10, 20, 40, 60)), ('dog', (50.5, 30.25, 90.5, 70.25))


def write_image(path: Path, size=SIZE, orientation: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, (90, 120, 60)).save(path, **({} if orientation == 1 else {'exif': exif(orientation)}))
    return path


def write(path: Path, text, encoding='utf-8') -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)).encode(encoding))
    return path


def read(path: Path, name: str, chosen: str | None = None):
    """The data set as the format ``name`` reads it, which recognizes it alone."""
    tree = FileTree(path)
    found, evidence = recognize(tree, chosen)
    assert found.name == name and evidence
    return found.read(tree)


def recognized(path: Path) -> list[str]:
    """Names of the formats with evidence that is not doubtful."""
    tree = FileTree(path)
    return [each.name for each in known_formats()
            if (evidence := each.recognize(tree)) and not isinstance(evidence, Doubtful)]


def objects(found, root: Path) -> dict:
    """Objects as (name, box) of each image, by the path of the image."""
    return {image.path.relative_to(root).as_posix(): [(each.name, each.box) for each in image.objects]
            for image in found.images}


def splits(found, root: Path) -> dict:
    return {image.path.relative_to(root).as_posix(): image.split for image in found.images}


def assert_objects(found, root: Path, expected: dict) -> None:
    """Each object comes back with its class, and its box within half a pixel."""
    got = objects(found, root)
    assert {name: [each[0] for each in rows] for name, rows in got.items()} == \
        {name: [each[0] for each in rows] for name, rows in expected.items()}
    for name, rows in expected.items():
        for (_, box), (_, right) in zip(got[name], rows):
            np.testing.assert_allclose(box, right, atol=0.5)


def polygon(box) -> list:
    """The corners of a box as a polygon."""
    x1, y1, x2, y2 = box
    return [x1, y1, x2, y1, x2, y2, x1, y2]
