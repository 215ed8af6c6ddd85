"""Images, masks with known pixels, and comparisons with what a reader returns."""

import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as operations

from tests.datasets.image_writer import write_rotated
from vitdet_plugin.datasets.formats import recognize
from vitdet_plugin.datasets.formats.base import SourceSet
from vitdet_plugin.datasets.formats.tree import FileTree

SIZE = WIDTH, HEIGHT = 200, 160
DONUT = np.zeros((HEIGHT, WIDTH), bool)  # with a hole
DONUT[20:100, 30:120] = True
DONUT[50:70, 60:90] = False


def write_image(path: Path, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_turned(path: Path) -> Path:
    """Write an image of 160 x 200 stored pixels that readers turn to 200 x 160."""
    return write_rotated(path, pixels=np.zeros((WIDTH, HEIGHT, 3), np.uint8))


def write_json(path: Path, content, encoding: str = 'utf-8') -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(json.dumps(content, ensure_ascii=False).encode(encoding))
    return path


def read(path: Path, name: str) -> SourceSet:
    """Read a data set after the check that it is recognized as this format and no other one."""
    tree = FileTree(path)
    found, evidence = recognize(tree)
    assert found.name == name and evidence
    result = found.read(tree)
    assert result.format.startswith(name)
    for image in result.images:
        for each in image.objects:
            assert each.name in result.classes
    return result


def objects_of(found: SourceSet, name: str | None = None):
    """Objects of the only image, or of that of a name."""
    images = [image for image in found.images if name in (None, image.path.name)]
    assert len(images) == 1, found.problems
    return images[0].objects


def pixels_of(mask, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W) bool."""
    if isinstance(mask, list):
        mask = operations.merge(operations.frPyObjects(mask, size[1], size[0]))
    return operations.decode(mask).astype(bool)


def draw(points, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W) bool pixels whose center is inside of a polygon, drawn at 8 times the resolution."""
    large = np.zeros((size[1] * 8, size[0] * 8), np.uint8)
    cv2.fillPoly(large, [np.round(np.array(points) * 8 - 0.5).astype(np.int32)], 1)
    return large[4::8, 4::8].astype(bool)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


def near(box, expected, within: float = 0.5) -> bool:
    return max(abs(a - b) for a, b in zip(box, expected)) <= within and len(box) == len(expected)


def texts(found: SourceSet) -> list[str]:
    """Problems as printed, with file names only."""
    return [f'{each.file.name}:{each.line}: {each.text}' for each in found.problems]
