"""Faults of a COCO annotation file; each entry: (function that adds it to the content, level, part of the message)."""

import copy
import random

NAN = float('nan')
HUGE = 10 ** 400


def _set(key, value, entry='annotations', at=0):
    def change(content):
        content[entry][at][key] = value
    return change


def _drop(key, entry='annotations', at=0):
    def change(content):
        del content[entry][at][key]
    return change


def _twice(entry):
    def change(content):
        content[entry].append(copy.deepcopy(content[entry][0]))
    return change


FAULTS = {
    'NaN box': (_set('bbox', [NAN, 1, 5, 5]), 'error', 'that are NaN'),
    'infinite box': (_set('bbox', [0, 0, float('inf'), 5]), 'error', 'that are NaN'),
    'box with an integer beyond the range of floats': (_set('bbox', [0, 0, HUGE, 5]), 'error', 'that are NaN'),
    'size with an integer beyond the range of floats': (_set('width', HUGE, 'images'), 'error', 'without a width'),
    'text box': (_set('bbox', ['one', 1, 5, 5]), 'error', 'not numbers'),
    'short box': (_set('bbox', [1, 2, 3]), 'error', 'without a bbox'),
    'no box': (_drop('bbox'), 'note', 'without a bbox, computed'),
    'giant box': (_set('bbox', [0, 0, 1e9, 5]), 'error', 'above 1000000'),
    'no area': (_drop('area'), 'note', 'without an area above 0'),
    'NaN polygon': (_set('segmentation', [[1, 1, NAN, 4, 5, 6]]), 'error', 'polygons of numbers'),
    'RLE counts': (_set('segmentation', dict(size=[4, 4], counts=[3])), 'error', 'do not fill'),
    'RLE size': (_set('segmentation', dict(counts=[3])), 'error', 'without a size'),
    'mask of text': (_set('segmentation', 'mask'), 'error', 'neither polygons nor RLE'),
    'annotation twice': (_twice('annotations'), 'warning', 'ids that occur twice'),
    'image twice': (_twice('images'), 'error', 'image ids that occur twice'),
    'category twice': (_twice('categories'), 'error', 'category ids that occur twice'),
    'no image id': (_drop('id', 'images'), 'error', 'without an id'),
    'no size': (_drop('width', 'images'), 'error', 'without a width'),
    'no file name': (_drop('file_name', 'images'), 'error', 'without a file_name'),
    'list id': (_set('id', [1]), 'note', 'without an id'),
    'negative box': (_set('bbox', [30, 30, -5, 5]), 'drop', 'negative'),
    'empty box': (_set('bbox', [3, 3, 0, 5]), 'drop', 'empty'),
    'area of zero': (_set('area', 0), 'note', 'without an area above 0'),
    'polygon of two points': (_set('segmentation', [[1, 1, 5, 5]]), 'warning', 'encloses nothing'),
    'polygons in a list that is empty': (_set('segmentation', [[]]), 'warning', 'encloses nothing'),
    'odd polygon': (_set('segmentation', [[1, 1, 9, 1, 9, 9, 4]]), 'warning', 'encloses nothing'),
    'RLE of an empty mask': (_set('segmentation', dict(size=[64, 64], counts=[4096])), 'warning', 'encloses nothing'),
    'RLE of another size': (_set('segmentation', dict(size=[64, 32], counts=[48, 2000])), 'error', 'another size'),
    'RLE text': (_set('segmentation', dict(size=[64, 64], counts='zz')), 'error', 'do not fill'),
    'crowd flag': (_set('iscrowd', 'maybe'), 'error', '"iscrowd" is not 0 or 1'),
    'crowd flag as text': (_set('iscrowd', '0'), 'note', '"iscrowd" as text'),
    'category without a name': (_set('name', ' ', 'categories'), 'error', 'categories without a name'),
    'outside': (_set('bbox', [500, 3, 9, 9]), 'drop', 'outside'),
    'unknown category': (_set('category_id', 77), 'drop', 'categories that the file does not list'),
    'unknown image': (_set('image_id', 77), 'drop', 'images that the file does not list'),
    'ignored': (_set('ignore', 1), 'drop', 'ignore'),
}

VALUES = [None, True, -1, 0, 0.5, 1, 3, 63, 1e-9, -1e30, 1e30, NAN, float('inf'), HUGE, '', 'x', '001.jpg', [], [1], {},
          [0, 0, 10, 10], [[1, 1, 9, 1, 9, 9]], [[1, 2]], [[]], dict(size=[64, 64], counts=[4096]), dict(size=[2, 2],
          counts='00'), dict(counts=[1])]


def mutate(content: dict, seed: int) -> dict:
    """Return a copy with one to three random changes: values, and entries removed or repeated."""
    rng = random.Random(seed)
    content = copy.deepcopy(content)
    for _ in range(rng.randint(1, 3)):
        part = rng.choice(['annotations'] * 4 + ['images', 'categories', 'whole'])
        entries = content.get(part)
        if part == 'whole' or not isinstance(entries, list) or not entries:
            key = rng.choice(['annotations', 'images', 'categories'])
            kind = rng.randrange(3)
            if kind == 0:
                content.pop(key, None)
            else:
                content[key] = rng.choice(VALUES) if kind == 1 else []
            continue
        at = rng.randrange(len(entries))
        kind = rng.randrange(6)
        if kind == 0:
            entries[at] = rng.choice(VALUES)
        elif kind == 1:
            entries.append(copy.deepcopy(entries[at]))
        elif kind == 2:
            entries.pop(at)
        elif isinstance(entries[at], dict) and entries[at]:
            key = rng.choice(sorted(entries[at], key=str))
            inner = entries[at][key]
            if kind == 3:
                del entries[at][key]
            elif kind == 4 and isinstance(inner, list) and inner:
                inner[rng.randrange(len(inner))] = rng.choice(VALUES)
            else:
                entries[at][key] = rng.choice(VALUES)
    return content
