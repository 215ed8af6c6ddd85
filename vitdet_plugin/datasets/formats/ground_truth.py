"""Output manifests of Amazon SageMaker Ground Truth and Rekognition Custom Labels: a JSON text in each line."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from vitdet_plugin.datasets.formats import shapes
from vitdet_plugin.datasets.formats.base import Format, SourceSet
from vitdet_plugin.datasets.formats.collector import AnnotatedImage, Collector, find_image
from vitdet_plugin.datasets.formats.files import head, json_lines, weigh
from vitdet_plugin.datasets.formats.shapes import to_number
from vitdet_plugin.datasets.formats.tree import FileTree

_SUFFIXES = ('.manifest', '.jsonl', '.json')
_TRIED_LINES = 20


def _manifests(tree: FileTree) -> list[PurePosixPath]:
    """Return the files whose first line is an image with a label; input manifests have none."""
    found = []
    for file in tree.with_suffix(*_SUFFIXES):
        if '"source-ref"' in head(tree.path(file)):
            first = next((entry for _, entry in json_lines(tree, file)), None)
            if isinstance(first, dict) and 'source-ref' in first and _jobs(first):
                found.append(file)
    return found


def _jobs(entry: dict) -> list[str]:
    """Return the names of the labels of an image: keys that have metadata."""
    return [key for key in entry if isinstance(entry.get(f'{key}-metadata'), dict)]


def _recognize(tree: FileTree) -> str | None:
    files = _manifests(tree)
    if not files:
        return None
    names = [str(entry.get('source-ref')) for _, entry in json_lines(tree, files[0]) if isinstance(entry, dict)]
    return weigh(f'{files[0]} with "source-ref" and labels of SageMaker Ground Truth',
                 [find_image(tree, name, files[0]) for name in names[:_TRIED_LINES]])


def _read(tree: FileTree) -> SourceSet:
    collector = Collector(tree, 'ground-truth')
    labels: list[tuple[AnnotatedImage, int | None, list[str]]] = []
    numbers: dict[str, int] = {}
    masks = 0
    for file in _manifests(tree):
        for number, entry in json_lines(tree, file):
            where = tree.path(file)
            if not isinstance(entry, dict) or not isinstance(entry.get('source-ref'), str):
                collector.problem(where, number, 'not a JSON object with "source-ref"')
                continue
            jobs = _jobs(entry)
            boxes = [job for job in jobs if isinstance(entry[job], dict) and 'annotations' in entry[job]]
            masks += any(job.endswith('-ref') for job in jobs)
            annotations = [(entry[job].get('annotations'), entry[f'{job}-metadata']) for job in boxes]
            count = sum(len(listed) for listed, _ in annotations if isinstance(listed, list))
            to = collector.add_image([entry['source-ref']], file, number, objects=count,
                                     stated=_stated_size(entry[boxes[0]]) if boxes else None)
            if to is None:
                continue
            for listed, metadata in annotations:
                numbers.update(_numbered(metadata.get('class-map')))
                _add_boxes(collector, to, number, listed, metadata.get('class-map'))
            if not boxes:
                labels.append((to, number, [name for job in jobs for name in _labels(entry[f'{job}-metadata'])]))
    if masks:
        collector.found.notes.append(f'{masks} images have masks of semantic segmentation, which are not read; give '
                                     'their folder with the images to read them')
    collector.use_labels(labels, 'labels')
    return collector.finish([name for name, _ in sorted(numbers.items(), key=lambda each: each[1])])


def _stated_size(label: dict) -> tuple[float, float] | None:
    sizes = label.get('image_size')
    size = sizes[0] if isinstance(sizes, list) and sizes else None
    try:
        return to_number(size['width']), to_number(size['height'])  # type: ignore[index]
    except (TypeError, KeyError, ValueError):
        return None


def _add_boxes(collector: Collector, to: AnnotatedImage, number: int, listed: Any, names: Any) -> None:
    """Add the boxes of an image; faults become problems."""
    for each in listed if isinstance(listed, list) else ():
        try:
            if not isinstance(each, dict) or not isinstance(names, dict):
                raise ValueError('not a box with a class of "class-map"')
            name = names.get(str(each.get('class_id')))
            if not isinstance(name, str):
                raise ValueError(f'class_id {each.get("class_id")} is not in "class-map"')
            left, top, width, height = (to_number(each.get(key)) for key in ('left', 'top', 'width', 'height'))
        except ValueError as error:
            collector.refuse_object(to, number, str(error))
            continue
        collector.add_object(to, name, number, [shapes.rectangle(left, top, left + width, top + height)])


def _numbered(names: Any) -> dict[str, int]:
    """Return the classes of a "class-map" that are numbered, which states the order of the labels."""
    return {name: int(key) for key, name in names.items() if key.isdecimal() and isinstance(name, str)} \
        if isinstance(names, dict) else {}


def _labels(metadata: dict) -> list[str]:
    """Return the classes of a whole image."""
    name, names = metadata.get('class-name'), metadata.get('class-map')
    if isinstance(name, str):
        return [name]
    return [each for each in names.values() if isinstance(each, str)] if isinstance(names, dict) else []


FORMAT = Format('ground-truth', 'a manifest with "source-ref" and labels in each line, as SageMaker Ground Truth and '
                'Rekognition write it', _recognize, _read)
