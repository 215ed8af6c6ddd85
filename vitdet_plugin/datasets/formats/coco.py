"""COCO files, one or several, with images in any folder; exports of Roboflow and other tools included."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from vitdet_plugin.coco.content import SAME_NAME, UNUSED_NAME, category_name, prepare_coco
from vitdet_plugin.coco.masks import mask_area
from vitdet_plugin.datasets.coco import (
    ABSENT,
    PARTLY,
    annotation_box,
    describe_annotation,
    find_bad_reference,
    image_file_name,
    image_size,
    index_by_id,
    is_crowd,
    is_id,
)
from vitdet_plugin.datasets.conversion import Problem, list_some
from vitdet_plugin.datasets.formats.base import Format, LastResort, SourceImage, SourceSet
from vitdet_plugin.datasets.formats.tree import FileTree, split_of
from vitdet_plugin.utils.track import track

_KEYS = ('"images"', '"annotations"', '"categories"')
_BACKGROUND = {'background', '_background_', '__background__', '__ignore__', '_ignore_'}
_TRIED_IMAGES = 50  # that must contain one which exists


def recognize_coco(tree: FileTree) -> str | None:
    """Return the evidence for COCO files, see :class:`Format`."""
    files = _coco_files(tree)
    if not files:
        return None
    contents = [tree.read_json(file) for file in files]
    entries = [(file, image) for file, content in zip(files, contents) for image in content['images'][:_TRIED_IMAGES]]
    counts = ', '.join(f'{sum(len(content.get(key) or []) for content in contents)} {key}'
                       for key in ('images', 'annotations'))
    names = list_some([str(file) for file in files])
    evidence = f'{len(files)} COCO file{"s" if len(files) > 1 else ""} ({names}): {counts}'
    if any(name and not isinstance(tree.find_image(name, file, split_of(file)), str)
           for file, image in entries if (name := image_file_name(image))):
        return evidence
    return LastResort(f'{evidence}; none of the images was found')


def read_coco_files(tree: FileTree) -> SourceSet:
    """Read all COCO files below the folder, see :class:`Format`."""
    found = SourceSet('coco')
    files = _coco_files(tree)
    _Reader(tree, found).read_all(_usable_files(tree, files, found.notes))
    found.notes += tree.note_encodings()
    for file in tree.with_suffix('.json'):
        if file in files:
            continue
        content = tree.read_json(file) if tree.begins_with_any(file, *_KEYS, '"image_id"') else None
        if file in tree.json_errors:
            found.problems.append(Problem(tree.path(file), None, f'not valid JSON: {tree.json_errors[file]}'))
        elif reason := _describe_ignored(content):
            found.notes.append(f'{file} is ignored: {reason}')
    found.note_unused(tree, 'are not listed in any COCO file and are left out')
    return found


def _coco_files(tree: FileTree) -> list[PurePosixPath]:
    """Return the files with images and categories; those that state a split come first."""
    files = [file for file in tree.with_suffix('.json')
             if tree.begins_with_any(file, *_KEYS) and _is_coco(tree.read_json(file))]
    return sorted(files, key=lambda file: (split_of(file) is None, file))


def _is_coco(content: Any) -> bool:
    if not isinstance(content, dict):
        return False
    images, categories = content.get('images'), content.get('categories')
    annotations = content.get('annotations', [])
    if not (_are_objects(images) and _are_objects(categories) and isinstance(annotations, list)):
        return False
    entries = [each for each in annotations if isinstance(each, dict)]
    is_other = any('segments_info' in each for each in entries[:1])  # panoptic
    return any(map(image_file_name, images)) and not is_other and (
        not annotations or any('image_id' in each for each in entries))


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(isinstance(each, dict) for each in value)


def _describe_ignored(content: Any) -> str:
    """Return what a file related to COCO is that has no objects, or an empty text."""
    if isinstance(content, list) and content and isinstance(content[0], dict) and 'score' in content[0]:
        return 'results of a model'
    annotations = content.get('annotations') if isinstance(content, dict) else None
    if not _are_objects(annotations):
        return ''
    return ('captions' if 'caption' in annotations[0] else
            'panoptic segments' if 'segments_info' in annotations[0] else '')


def _usable_files(tree: FileTree, files: list[PurePosixPath], notes: list[str]) -> list[PurePosixPath]:
    """Leave out files without annotations, and files of keypoints if others annotate the same images."""
    for file in [file for file in files if 'annotations' not in tree.read_json(file)]:
        files = [each for each in files if each != file]
        notes.append(f'{file} is ignored: its {len(tree.read_json(file)["images"])} images have no annotations')

    def names(file: PurePosixPath) -> set[str | None]:
        return {image_file_name(image) for image in tree.read_json(file)['images']}
    with_keypoints = [file for file in files if any(
        isinstance(each, dict) and each.get('keypoints') for each in tree.read_json(file).get('annotations', []))]
    others = [file for file in files if file not in with_keypoints]
    covered = set().union(*map(names, others)) if with_keypoints else set()
    kept = list(others)
    for file in with_keypoints:
        if names(file) <= covered:
            notes.append(f'{file} is ignored: keypoints of images that other files annotate')
        else:
            notes.append(f'{file}: keypoints are ignored; boxes and masks are read')
            kept.append(file)
    return [file for file in files if file in kept]


class _Reader:
    """Classes and counts over all files."""

    def __init__(self, tree: FileTree, found: SourceSet) -> None:
        self.tree, self.found = tree, found
        self.parents: set[str] = set()
        self.changes: Counter[str] = Counter()
        self.repeated = self.equal = self.federated = 0
        self.lost_masks: list[str] = []

    def read_all(self, files: Sequence[PurePosixPath]) -> None:
        """Read the files and set the classes and notes."""
        names: dict[str, None] = {}
        for file in files:
            content = self.tree.read_json(file)
            names.update(dict.fromkeys(self._read(file, content)))
            for category in content['categories']:
                parent = category.get('supercategory')
                if isinstance(parent, str) and parent != category_name(category):
                    self.parents.add(parent.strip())
        used, notes = self.found.count_objects(), self.found.notes
        if roots := [name for name in names if name not in used and name in self.parents]:
            notes.append(f'not a class, since it is the supercategory of others and has no objects: {list_some(roots)}')
        if background := [name for name in names if name.lower() in _BACKGROUND and name not in {*used, *roots}]:
            notes.append(f'not a class, since it is the background and has no objects: {list_some(background)}')
        self.found.classes = [name for name in names if name not in {*roots, *background}]
        if unused := [name for name in self.found.classes if name not in used]:
            notes.append(f'{len(unused)} classes have no objects: {list_some(unused)}')
        if self.lost_masks:
            notes.append(f'{len(self.lost_masks)} masks enclose nothing; only the boxes of these objects are read: '
                         f'{list_some(self.lost_masks)}')
        if self.repeated:
            notes.append(f'{self.repeated} entries of images repeat an image of another entry; their objects are '
                         f'joined, {self.equal} equal ones count once')
        if self.federated:
            notes.append(f'{self.federated} images were not searched for every class (LVIS): "vitdet report" does not '
                         'count detections of the others as errors; training takes them as background')
        notes += [f'{count} {kind}' for kind, count in self.changes.items()]

    def _read(self, file: PurePosixPath, original: dict) -> list[str]:
        """Add the images and objects of a file and return the names of its categories."""
        where = self.tree.path(file)
        prepared = prepare_coco({'annotations': [], **original})
        content, problems = prepared.content, self.found.problems
        self.changes.update(change.kind for change in prepared.changes if change.kind not in (SAME_NAME, UNUSED_NAME))
        categories, category_faults = index_by_id(content['categories'], 'category')
        images, image_faults = index_by_id(content['images'], 'image')
        problems += [Problem(where, None, f'{kind}: {entry}') for kind, entry in category_faults + image_faults]
        entries: dict[Any, SourceImage | None] = {}
        repeated = set()
        counts = Counter(each['image_id'] for each in content['annotations']
                         if isinstance(each, dict) and is_id(each.get('image_id')))
        for key, image in track(images.items(), len(images), f'images of {file.name}'):
            known = len(self.found.images)
            entries[key] = self._image(file, key, image)
            if entries[key] is None and counts[key]:
                text = f'{problems[-1].text}; its {counts[key]} annotations are left out'
                problems[-1] = Problem(where, None, text)
            elif entries[key] is not None and len(self.found.images) == known:
                repeated.add(key)
        for number, annotation in enumerate(content['annotations']):
            entry = describe_annotation(annotation, number)
            key = annotation.get('image_id') if isinstance(annotation, dict) else None
            target = entries.get(key) if is_id(key) else None
            if is_id(key) and key in entries and target is None:
                continue  # counted with its image
            if wrong := find_bad_reference(annotation, images, categories):
                problem = Problem(where, None, f'{entry}: {wrong}')
                problems.append(problem) if target is None else self.found.refuse_object(target, problem)
            elif target is not None:
                name = category_name(categories[annotation['category_id']]) or ''
                self._object(file, annotation, entry, target, name, key in repeated)
        self._add_federated(images, categories, entries)
        return [name.strip() for each in categories.values() if (name := category_name(each))]

    def _image(self, file: PurePosixPath, key: Any, image: dict) -> SourceImage | None:
        where, name, split = self.tree.path(file), image_file_name(image), split_of(file)
        path = 'no file_name' if name is None else self.tree.find_image(name, file, split)
        if isinstance(path, str):
            self.found.problems.append(Problem(where, None, f'image {key}: {path}'))
            return None
        split = split or split_of(self.tree.inside(path))
        if known := self.found.image_at(path):
            self.repeated += 1
            if split is not None and known.split != split:
                was = known.split or 'no split'
                self.found.problems.append(Problem(where, None, f'image {key}: {path} is in {was} by another file and '
                                                                f'in {split} by this one; it stays in {was}'))
            return known
        return self.found.add_image(path, split, None, where, size=image_size(image), entry=f'image {key}')

    def _add_federated(self, images: dict, categories: dict, entries: dict[Any, SourceImage | None]) -> None:
        """Add what LVIS states about the classes of each image, and the frequencies of the classes."""
        def names(ids: Any) -> tuple[str, ...]:
            known = [category_name(categories[each]) for each in ids or () if is_id(each) and each in categories]
            return tuple(name.strip() for name in known if name)
        for category in categories.values():
            name, frequency = category_name(category), category.get('frequency')
            if name and frequency in ('r', 'c', 'f'):
                self.found.frequencies[name.strip()] = frequency
        for key, image in images.items():
            target, absent, partly = entries.get(key), image.get(ABSENT), image.get(PARTLY)
            if target is not None and (isinstance(absent, list) or isinstance(partly, list)):
                self.federated += 1
                target.absent, target.partly = names(absent), names(partly)

    def _object(self, file: PurePosixPath, annotation: dict, entry: str, image: SourceImage, name: str,
                is_repeated: bool) -> None:
        box, mask = annotation_box(annotation), annotation.get('segmentation') or None
        corners = None if box is None else (box[0], box[1], box[0] + box[2], box[1] + box[3])
        if is_repeated and corners is not None and image.has(name.strip(), corners):
            self.equal += 1
            return
        if mask is not None and not mask_area(mask) and corners is not None:
            self.lost_masks.append(f'{entry} of {file}')
            mask = None
        if corners is not None and mask is not None and (corners[0] >= corners[2] or corners[1] >= corners[3]):
            corners = None  # the mask states the position
        self.found.add_object(image, name, self.tree.path(file), box=corners, mask=mask, is_crowd=is_crowd(annotation),
                              entry=entry)


FORMAT = Format('coco', 'JSON files with the lists images, annotations and categories, and the images that they name',
                recognize_coco, read_coco_files)
