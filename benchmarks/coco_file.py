"""A synthetic annotation file with the counts and lengths of COCO's ``instances_train2017.json``."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

IMAGES, OBJECTS, CLASSES = 118_287, 860_001, 80
_SHAPES = 5000  # different masks; each is used many times


def write_coco_file(path: Path, images: int = IMAGES, objects: int = OBJECTS, seed: int = 0) -> Path:
    """Write a COCO file; with the default counts it has about 450 MB.

    As in COCO, annotations are not sorted by image, 1.2 % are crowds with run lengths, coordinates have two decimals,
    and 1 % of the images have no annotation.

    Args:
        path: File to write.
        images: Number of images.
        objects: Number of annotations.
        seed: Seed of the content.

    Returns:
        ``path``.
    """
    rng = np.random.default_rng(seed)
    shapes = [_shape(rng) for _ in range(_SHAPES)]
    scratch = path.with_name(f'{path.name}.{os.getpid()}')
    with open(scratch, 'w', encoding='utf-8') as file:
        file.write('{"info": {"description": "synthetic", "year": 2017},"licenses": [{"id": 1,"name": "none"}],')
        file.write('"images": [')
        file.write(','.join(_image(number) for number in range(1, images + 1)))
        file.write('],"annotations": [')
        for number, text in enumerate(_annotations(rng, shapes, images, objects)):
            file.write(f',{text}' if number else text)
        categories = [dict(supercategory='thing', id=key, name=f'class {key}') for key in range(1, CLASSES + 1)]
        file.write(f'],"categories": {json.dumps(categories)}}}')
    os.replace(scratch, path)
    return path


def class_names() -> tuple[str, ...]:
    """Return the names of the categories of :func:`write_coco_file`."""
    return tuple(f'class {key}' for key in range(1, CLASSES + 1))


def _image(number: int) -> str:
    name = f'{number:012d}.jpg'
    return json.dumps(dict(license=1, file_name=name, coco_url=f'http://images.cocodataset.org/train2017/{name}',
                           height=480, width=640, date_captured='2013-11-14 11:18:45',
                           flickr_url=f'http://farm9.staticflickr.com/8186/{number:010d}_4aa47c3e2f_z.jpg', id=number))


def _annotations(rng: np.random.Generator, shapes: list, images: int, objects: int) -> Iterator[str]:
    annotated = rng.permutation(images)[:max(1, round(images * 0.991))] + 1
    owners, labels = rng.choice(annotated, objects), rng.integers(1, CLASSES + 1, objects)
    picks, crowds = rng.integers(0, len(shapes), objects), rng.random(objects) < 0.012
    for number in range(objects):
        polygons, area, box, runs = shapes[picks[number]]
        yield (f'{{"segmentation": {runs if crowds[number] else polygons},"area": {area},'
               f'"iscrowd": {int(crowds[number])},"image_id": {owners[number]},"bbox": {box},'
               f'"category_id": {labels[number]},"id": {number + 1}}}')


def _shape(rng: np.random.Generator) -> tuple[str, float, str, str]:
    """Return the texts of polygons, area, box (x, y, width, height) and run lengths of one object, in pixels."""
    parts = []
    center, radius = rng.uniform((80, 80), (560, 400)), rng.uniform(4, 75)
    for _ in range(1 + (rng.random() < 0.1)):
        points = max(4, int(rng.lognormal(2.72, 0.7)))
        angles = np.sort(rng.uniform(0, 2 * np.pi, points))
        xy = center + radius * rng.uniform(0.8, 1, (points, 1)) * np.stack([np.cos(angles), np.sin(angles)], 1)
        parts.append(xy.round(2))
    low, high = np.concatenate(parts).min(0), np.concatenate(parts).max(0)
    box = [*low.tolist(), *(high - low).round(2).tolist()]
    runs = rng.integers(1, 400, 250).tolist()
    rle = dict(counts=[*runs, 640 * 480 - sum(runs)], size=[480, 640])
    polygons = json.dumps([part.ravel().tolist() for part in parts])
    return polygons, round(float(radius ** 2 * 2.5), 4), json.dumps(box), json.dumps(rle)
