"""Pack the samples of a COCO file while it is read: one pickle for each image, as mmengine keeps samples.

``CocoDataset`` holds the whole file as Python objects before it pickles the samples. Here each annotation becomes the
pickled fragment of its object at once. Fragments are written to scratch files by ranges of images and joined range by
range, since annotations are in any order.
"""

from __future__ import annotations

import math
import pickle
import tempfile
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitdet_plugin.coco.content import Change, prepare_annotation, prepare_coco
from vitdet_plugin.coco.json_stream import JsonStream, UnsupportedJson, read_list
from vitdet_plugin.coco.masks import is_flat

_LISTS = ('images', 'annotations', 'categories')
_NUMBERS = (int, float)
_RANGES = 16  # of images: memory of one range at a time
_COMPARED = 500  # first annotations, whose objects are compared with those of mmdet
_EXACT = 2**53  # larger floats do not name an integer
_PROTOCOL = 3  # the last one without frames and with explicit numbers of referred parts, so that pickles can be joined
_INSTANCES = b'X\x09\x00\x00\x00instances]('  # key, list, mark
_END = b'es.'  # end of the list, item of the dict, end of the pickle


def _fragment(value: Any) -> bytes:
    """Return a pickle without the protocol at its begin and the mark of its end.

    Fragments can be joined: each refers to its own parts only, by numbers that it defines before.
    """
    return pickle.dumps(value, _PROTOCOL)[2:-1]


class CocoPacker:
    """Samples of a COCO file in the form of a data set.

    Args:
        dataset: mmdet's ``CocoDataset``, or a subclass with the same rules for annotations. Receives ``cat_ids``,
            ``cat2label`` and ``cat_img_map``; ``parse_data_info`` is called.
        path: The file.
        folder: Folder for scratch files without names.

    Raises:
        UnsupportedJson: The file has a form that only mmdet's own loading handles, or that it refuses. Other errors
            have the same meaning.
    """

    def __init__(self, dataset: Any, path: str, folder: Path) -> None:
        self._dataset, self._path = dataset, path
        self._positions: dict[int, int] = {}  # of images, by id
        self._sizes: list[tuple[Any, Any]] = []
        self._heads: list[bytes] = []
        self._owners, self._categories = array('q'), array('q')  # image and category id of every annotation
        self._number = 0
        self._scratch = [tempfile.TemporaryFile(dir=folder) for _ in range(_RANGES)]
        self._rows = [array('q') for _ in range(_RANGES)]  # image of every fragment in the files
        self._lengths = [array('q') for _ in range(_RANGES)]

    def __enter__(self) -> CocoPacker:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._scratch:
            file.close()

    def read(self) -> None:
        """Read the file."""
        guessed, seen = {}, set()
        with JsonStream(self._path) as stream:
            for key, offset, value in stream.members(_LISTS):
                if key == 'annotations':
                    for name in ('images', 'categories'):  # objects need the size of their image, and labels
                        if name not in seen:
                            if (guess := read_list(self._path, name)) is None:
                                raise UnsupportedJson(f'no {name}')
                            guessed[name] = guess[0]
                            self._add_list(name, iter([guess[1]]))
                    for piece in value:
                        self._add_annotations(piece)
                elif key in guessed:
                    if guessed[key] != offset:
                        raise UnsupportedJson(f'several lists {key!r}')
                elif key in _LISTS:
                    self._add_list(key, value)
                seen.add(key)
        if not seen.issuperset(_LISTS):
            raise UnsupportedJson('a list is missing')
        self._dataset.cat_img_map = images_by_category(*self.annotation_ids())

    def annotation_ids(self) -> tuple[np.ndarray, np.ndarray]:
        """Return category id and image id of every annotation, each of shape (N,), int64."""
        return np.array(self._categories), np.array(self._owners)

    def light_entries(self) -> list[dict]:
        """Return what filters read of each sample, and its number."""
        return [dict(img_id=key, width=width, height=height, number=number)
                for number, (key, (width, height)) in enumerate(zip(self._positions, self._sizes))]

    def samples(self, kept: Sequence[int]) -> Iterator[bytes]:
        """Yield the pickles of the images with these numbers, which must be in ascending order."""
        remaining = iter([*kept, len(self._heads)])
        number = next(remaining)
        for index, (file, images, lengths) in enumerate(zip(self._scratch, self._rows, self._lengths)):
            file.seek(0)
            content = file.read()
            ends = np.cumsum(np.array(lengths))
            order = np.argsort(np.array(images), kind='stable')
            first = np.searchsorted(np.array(images)[order], np.arange(len(self._heads) + 1)).tolist()
            order, starts, ends = order.tolist(), (ends - lengths).tolist(), ends.tolist()
            stop = self._first_of_range(index + 1)
            while number < stop:
                parts = [content[starts[row]:ends[row]] for row in order[first[number]:first[number + 1]]]
                yield b''.join([b'\x80', bytes([_PROTOCOL]), self._heads[number], _INSTANCES, *parts, _END])
                number = next(remaining)

    def _add_list(self, name: str, pieces: Iterator[list]) -> None:
        if name == 'images':
            for piece in pieces:
                self._add_images(piece)
        else:
            self._set_categories([each for piece in pieces for each in piece])

    def _set_categories(self, categories: list) -> None:
        """Set the labels as mmdet does; categories with the same name depend on the annotations."""
        prepared = prepare_coco(dict(categories=categories)).content['categories']
        ids = [each['id'] for each in prepared]
        names = {str(each['name']) for each in prepared}
        if not len(categories) == len(names) == len(set(ids)) or not all(type(key) is int for key in ids):
            raise UnsupportedJson('categories of the same name')
        api = self._dataset.COCOAPI()
        api.dataset = dict(images=[], annotations=[], categories=prepared)
        api.createIndex()
        self._dataset.cat_ids = api.get_cat_ids(cat_names=self._dataset.metainfo['classes'])
        self._dataset.cat2label = {key: label for label, key in enumerate(self._dataset.cat_ids)}

    def _add_images(self, piece: list) -> None:
        for image in prepare_coco(dict(images=piece)).content['images']:
            key = image['id']
            if type(key) is not int:
                raise UnsupportedJson('an image id')
            image['img_id'] = key
            entry = self._dataset.parse_data_info(dict(raw_ann_info=[], raw_img_info=image))
            if entry.pop('instances') != [] or len(entry) < 2:
                raise UnsupportedJson('an entry of another form')
            head, size = _fragment(entry), (entry['width'], entry['height'])
            position = self._positions.setdefault(key, len(self._heads))
            if position == len(self._heads):
                self._heads.append(head)
                self._sizes.append(size)
            else:  # the last one with an id is used, as by pycocotools
                self._heads[position], self._sizes[position] = head, size

    def _first_of_range(self, index: int) -> int:
        return -(-index * len(self._heads) // _RANGES)

    def _add_annotations(self, piece: list) -> None:
        if not self._number and piece and 'segments_info' in piece[0]:
            raise UnsupportedJson('panoptic annotations')
        positions, sizes, labels = self._positions, self._sizes, self._dataset.cat2label
        count = len(self._heads)
        fragments: list[list[bytes]] = [[] for _ in range(_RANGES)]
        for number, annotation in enumerate(piece, self._number):
            owner, category = annotation.get('image_id'), annotation.get('category_id')
            if _is_plain(annotation):
                position = positions.get(owner)
                found = None if position is None else _plain_object(annotation, sizes[position], labels.get(category))
                if number < _COMPARED and found != self._unusual_object(annotation, number)[2]:
                    raise UnsupportedJson('mmdet has other rules for annotations')
            else:
                owner, category, found = self._unusual_object(annotation, number)
                position = positions.get(owner)
            self._owners.append(owner)
            self._categories.append(category)
            if found is not None:
                index = position * _RANGES // count  # type: ignore[operator]
                fragments[index].append(_fragment(found))
                self._rows[index].append(position)  # type: ignore[arg-type]
        self._number += len(piece)
        for file, lengths, new in zip(self._scratch, self._lengths, fragments):
            file.write(b''.join(new))
            lengths.extend(map(len, new))

    def _unusual_object(self, annotation: dict, number: int) -> tuple[int, int, dict | None]:
        """Return image id, category id and object of any annotation, converted as when mmdet reads it."""
        changes: list[Change] = []
        given = annotation
        annotation = prepare_annotation(annotation, number, changes)
        owner, category = annotation['image_id'], annotation['category_id']
        for key, value in (('image_id', owner), ('category_id', category)):
            if type(value) is not int or type(given[key]) is float and abs(value) >= _EXACT:
                raise UnsupportedJson(f'{key} {value}')
        if any(change.level == 'error' for change in changes):
            raise UnsupportedJson('an annotation that is refused')
        if owner not in self._positions:
            return owner, category, None
        width, height = self._sizes[self._positions[owner]]
        image = dict(id=owner, img_id=owner, file_name='image', width=width, height=height)
        entry = self._dataset.parse_data_info(dict(raw_ann_info=[annotation], raw_img_info=image))
        return owner, category, next(iter(entry['instances']), None)


def images_by_category(categories: np.ndarray, images: np.ndarray) -> defaultdict[int, list[int]]:
    """Return the image of every annotation by category, in the order of the file.

    Args:
        categories: Category ids, shape (N,).
        images: Image ids, shape (N,).
    """
    order = np.argsort(categories, kind='stable')
    keys, first = np.unique(categories[order], return_index=True)
    return defaultdict(list, {key: part.tolist() for key, part in zip(
        keys.tolist(), np.split(images[order], first[1:]))})


def _is_plain(annotation: dict) -> bool:
    """Whether an annotation needs no conversion and is no run-length code; most are so."""
    get = annotation.get
    crowd, area, box, mask = get('iscrowd'), get('area'), get('bbox'), get('segmentation')
    if not (type(get('image_id')) is int and type(get('category_id')) is int and 'ignore' not in annotation
            and (crowd is None or type(crowd) is int and 0 <= crowd <= 1) and type(box) is list and len(box) == 4
            and str not in map(type, box) and type(area) in _NUMBERS and 0 < area < math.inf):
        return False
    if mask is None:
        return True
    if type(mask) is not list:
        return False
    for part in mask:
        if type(part) is not list or len(part) < 6 or len(part) % 2 or type(part[0]) not in _NUMBERS or is_flat(part):
            return False
    return True


def _plain_object(annotation: dict, size: tuple[Any, Any], label: int | None) -> dict | None:
    """Return the object of an annotation, or None if mmdet skips it."""
    x, y, width, height = annotation['bbox']
    right, bottom = x + width, y + height
    if label is None or width < 1 or height < 1:
        return None
    if not (0 <= x < right <= size[0] and 0 <= y < bottom <= size[1]):  # not inside the image
        if max(0, min(right, size[0]) - max(x, 0)) * max(0, min(bottom, size[1]) - max(y, 0)) == 0:
            return None
    found = {'ignore_flag': 1 if annotation.get('iscrowd') else 0, 'bbox': [x, y, right, bottom], 'bbox_label': label}
    if mask := annotation.get('segmentation'):
        found['mask'] = mask
    return found
