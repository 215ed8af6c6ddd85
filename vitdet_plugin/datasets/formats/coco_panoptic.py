"""COCO panoptic: JSON files with ``segments_info``, and a PNG for each image whose colors are the segments."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from vitdet_plugin.coco.content import category_name
from vitdet_plugin.datasets.coco import image_file_name, image_size, is_id
from vitdet_plugin.datasets.conversion import list_some
from vitdet_plugin.datasets.formats import shapes
from vitdet_plugin.datasets.formats.base import Format, SourceSet
from vitdet_plugin.datasets.formats.collector import AnnotatedImage, Collector, find_image
from vitdet_plugin.datasets.formats.files import find_json, load_json, read_all_json, weigh
from vitdet_plugin.datasets.formats.tree import FileTree
from vitdet_plugin.datasets.image_probe import decoder_limits
from vitdet_plugin.utils.track import track


def _is_panoptic(content: Any) -> bool:
    if not isinstance(content, dict) or not isinstance(content.get('images'), list):
        return False
    annotations = content.get('annotations')
    return isinstance(annotations, list) and any(isinstance(each, dict) and 'segments_info' in each
                                                 for each in annotations[:5])


def _recognize(tree: FileTree) -> str | None:
    files = find_json(tree, _is_panoptic, '"images"') or find_json(tree, _is_panoptic, '"segments_info"')
    if not files:
        return None
    content = load_json(tree, files[0])
    names = [name for image in content['images'][:20] if isinstance(image, dict) and (name := image_file_name(image))]
    return weigh(f'{files[0]} with "segments_info" of COCO panoptic',
                 [find_image(_without_segments(tree, files), name, files[0]) for name in names])


def _read(tree: FileTree) -> SourceSet:
    contents = [*read_all_json(tree, (found := SourceSet('coco-panoptic')), _is_panoptic)]
    collector = Collector(_without_segments(tree, [file for file, _ in contents]), 'coco-panoptic')
    collector.found.problems += found.problems
    collector.found.notes += found.notes
    classes: dict[str, None] = {}
    stuff: dict[str, int] = {}
    for file, content in contents:
        entries = [each for each in content.get('categories') or () if isinstance(each, dict)]
        categories = {each['id']: each for each in entries if is_id(each.get('id')) and category_name(each)}
        classes.update({category_name(each) or '': None for each in categories.values() if each.get('isthing', 1)})
        images = {each['id']: each for each in content['images'] if isinstance(each, dict) and is_id(each.get('id'))}
        for number, annotation in track(enumerate(content['annotations'], 1), len(content['annotations']), file.name):
            _add_image(collector, tree, file, number, annotation, images, categories, stuff)
    if stuff:
        listed = list_some([f'{name} {count}' for name, count in sorted(stuff.items(), key=lambda each: -each[1])])
        collector.found.notes.append(f'{sum(stuff.values())} segments are of {len(stuff)} classes that are not things '
                                     f'("isthing": 0) and are left out: {listed}')
    return collector.finish([*classes])


def _without_segments(tree: FileTree, files: list[PurePosixPath]) -> FileTree:
    """Return the tree without the folders of the PNG files, which have the names of the JSON files."""
    return tree.without_folders(*(file.stem.lower() for file in files))


def _add_image(collector: Collector, tree: FileTree, file: PurePosixPath, number: int, annotation: Any,
               images: dict, categories: dict, stuff: dict[str, int]) -> None:
    """Add an image with its segments of things; count the others."""
    where = tree.path(file)
    image = _entry_of(images, annotation, 'image_id')
    segments = annotation.get('segments_info') if isinstance(annotation, dict) else None
    if image is None or not isinstance(segments, list) or not isinstance(annotation.get('file_name'), str):
        collector.problem(where, number, 'not the segments of a listed image')
        return
    to = collector.add_image([image_file_name(image) or ''], file, number, stated=image_size(image),
                             objects=len(segments))
    if to is None:
        return
    png = tree.find_image(f'{file.stem}/{annotation["file_name"]}', file)
    try:
        if isinstance(png, str):
            raise ValueError(png)
        if png == to.image.path:  # another file of the same name without suffix
            raise ValueError(f'it is not below {tree.root}')
        codes = _read_ids(png)
        if codes.shape != (to.image.height, to.image.width):
            raise ValueError(f'{codes.shape[1]} x {codes.shape[0]} pixels for an image of {to.image.width} x '
                             f'{to.image.height}')
    except ValueError as error:
        collector.drop(to.image)
        collector.problem(where, number, f'{annotation["file_name"]}: {error}; {to.image.path.name} is left out')
        return
    for segment in segments:
        _add_segment(collector, to, number, segment, codes, categories, stuff)


def _entry_of(entries: dict, each: Any, key: str) -> dict | None:
    return entries.get(each[key]) if isinstance(each, dict) and is_id(each.get(key)) else None


def _read_ids(path: Path) -> np.ndarray:
    """Return red + green * 256 + blue * 65536 of each pixel (H, W).

    Raises:
        ValueError: The file cannot be read.
    """
    try:
        with decoder_limits(), Image.open(path) as image:
            return np.asarray(image.convert('RGB')).astype(np.int64) @ [1, 256, 65536]
    except Exception as error:  # decoders raise almost anything on damaged data
        raise ValueError(f'it cannot be read ({" ".join(str(error).split())[:60]})') from None


def _add_segment(collector: Collector, to: AnnotatedImage, number: int, segment: Any, codes: np.ndarray,
                 categories: dict, stuff: dict[str, int]) -> None:
    category = _entry_of(categories, segment, 'category_id')
    if category is None:
        collector.refuse_object(to, number, f'a segment without a category of the file: {segment}')
        return
    name = category_name(category) or ''
    if not category.get('isthing', 1):
        stuff[name] = stuff.get(name, 0) + 1
        return
    pixels = codes == segment.get('id')
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    if not len(rows):
        collector.refuse_object(to, number, f'{name}: no pixel has the color of the segment {segment.get("id")}')
        return
    part = pixels[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
    found = collector.add_object(to, name, number, [shapes.bitmap(part, int(columns[0]), int(rows[0]))])
    if found is not None:
        found.is_crowd = bool(segment.get('iscrowd'))


FORMAT = Format('coco-panoptic', 'JSON files with "segments_info" and a PNG of segments for each image, as of COCO '
                'panoptic; the things are read', _recognize, _read)
