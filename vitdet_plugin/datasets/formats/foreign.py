"""Annotations that no format of this package reads, with what to do: they must not be taken for class folders."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import NamedTuple

from vitdet_plugin.datasets.formats.files import head, sample
from vitdet_plugin.datasets.formats.row_files import rows_of, to_floats
from vitdet_plugin.datasets.formats.tree import FileTree
from vitdet_plugin.datasets.image_files import IMAGE_SUFFIXES

_SYNSET = re.compile(r'n\d{8}')
_AS_TABLE = 'write its boxes to a CSV file with the columns filename, class, xmin, ymin, xmax, ymax'
_AS_COCO = 'export it as COCO'
# words for coordinates, in quotes in JSON, as tags or attributes in XML
_WORDS = (r'bbox\w*|box(es|2d)?|bnd_?box|bounding_?(box|poly)\w*|rects?|rectangles?|polygons?|points?|vertices|'
          r'segmentations?|geometr(y|ies)|keypoints|landmarks|coordinates?|x_?min|left|xtl|x1')
_GEOMETRY = re.compile(rf"""["'<\s]_?({_WORDS})["'>=\s]""", re.IGNORECASE)
_NUMBERS_IN_ROW = 4
_FEW_IMAGES = 10
_OF_VIDEOS = ('gt.txt', 'det.txt')


class _Foreign(NamedTuple):
    name: str  # regular expression of the file name in lower case
    what: str
    advice: str
    is_annotation: bool = True  # otherwise perhaps another form of the same images, which class folders may contain


_KNOWN = (
    _Foreign(r'mpii_human_pose.*\.mat', 'the MATLAB file of MPII Human Pose, whose keypoints have no boxes of objects',
             f'read it with scipy.io.loadmat and {_AS_TABLE}'),
    _Foreign(r'.*\.mat', 'a MATLAB file', f'read it with scipy.io.loadmat and {_AS_TABLE}'),
    _Foreign(r'.*\.(tfrecords?|record)(-\d+-of-\d+)?', 'a TFRecord file', f'{_AS_COCO} from the labeling tool',
             False),
    _Foreign(r'.*\.(parquet|arrow)', 'a table of Hugging Face datasets',
             f'save its images with datasets.load_dataset, and {_AS_TABLE}', False),
    _Foreign(r'.*(annot|label|bbox|ground.?truth).*\.(zip|tar|tgz|gz|7z|rar)', 'an archive of annotations',
             'unpack it first'),
    _Foreign(r'.*\.(jsonl|ndjson|odgt)', 'a file with a JSON text in each line', f'{_AS_COCO}, or {_AS_TABLE}'),
    _Foreign(r'.*\.vott', 'a project of VoTT without its regions',
             'export it as VoTT JSON, or give the folder of its target connection (…-asset.json)'),
    _Foreign(r'.*\.(h5|hdf5|lmdb|mdb|npz|npy|pkl|pickle|pt|pth|bin)', 'a file of arrays',
             'save its images as files, in a folder for each class or with a CSV file', False),
)


def describe_foreign(tree: FileTree, is_class_folders: bool) -> str:
    """Return what annotations of no known format a folder holds and what to do, empty without any.

    Args:
        tree: The files.
        is_class_folders: Whether the folders would be taken for classes otherwise: then only what is surely an
            annotation counts.
    """
    for known in _KNOWN:
        if is_class_folders and not known.is_annotation:
            continue
        files = [file for file in tree.others if re.fullmatch(known.name, file.name.lower())]
        if files and not (is_class_folders and any(_SYNSET.fullmatch(part) for image in tree.images[:1]
                                                   for part in image.parts)):
            return f'{_first(files)} is {known.what}, which is not read: {known.advice}'
    tracks = [file for file in tree.with_suffix('.txt') if file.name.lower() in _OF_VIDEOS]
    if tracks and _is_row(_head(tree, tracks[0])):
        return f'{_first(tracks)} has boxes of the frames of a video (MOT Challenge), which are not read: {_AS_TABLE}'
    for suffixes, has_annotations in ((('.json',), _mentions_geometry), (('.xml',), _mentions_geometry),
                                      (('.txt', '.csv', '.tsv'), _has_rows)):
        for file in sample(tree.with_suffix(*suffixes)):
            if has_annotations(tree, file):
                return (f'{file} has annotations of a form that is not known: {_AS_COCO} from the tool that wrote it, '
                        f'or {_AS_TABLE}')
    for file in sample(tree.with_suffix('.csv', '.tsv')):
        below = sum(image.is_relative_to(file.parent) for image in tree.images)
        # next to folders of all images it may be any table of them
        if (not is_class_folders or below < len(tree.images)) and _has_row_for_each(tree, file, below):
            return (f'{file} has about as many rows as its folder has images ({below}), but no columns that are known: '
                    'write a table with the columns image (the file name) and label (the class)')
    return ''


def _has_row_for_each(tree: FileTree, file: PurePosixPath, images: int) -> bool:
    if images < _FEW_IMAGES:
        return False
    with tree.path(file).open('rb') as stream:
        rows = sum(bool(line.strip()) for line in stream)
    return abs(rows - images) <= max(1, images // 100)  # a header, and a figure among the images


def _first(files: list[PurePosixPath]) -> str:
    return f'{files[0]}{f" (one of {len(files)} such files)" if len(files) > 1 else ""}'


def _names_images(tree: FileTree, file: PurePosixPath, text: str) -> bool:
    """Whether a file has the name of an image, or names one."""
    if tree.with_stem(file.stem) or tree.with_stem(PurePosixPath(file.stem).stem):
        return True
    if re.search(r'\d', file.stem) and any(re.match(re.escape(file.stem) + '[-_. ]', image.name) for image in
                                           tree.images):  # 0001.txt of 0001_test.jpg
        return True
    names = re.findall(r'([^\s"\'/\\<>=,;|]+\.(?:' + '|'.join(each[1:] for each in IMAGE_SUFFIXES) + r'))\b', text,
                       re.IGNORECASE)
    # also paths without a suffix in a line of their own
    names += [row for _, row in rows_of(text)[:20] if '/' in row and not re.search(r'\s', row)]
    return any(tree.with_stem(PurePosixPath(name).stem) for name in names[:20])


def _mentions_geometry(tree: FileTree, file: PurePosixPath) -> bool:
    text = head(tree.path(file))
    return bool(_GEOMETRY.search(text)) and _names_images(tree, file, text)


def _has_rows(tree: FileTree, file: PurePosixPath) -> bool:
    """Whether a file has rows of numbers and belongs to images."""
    text = head(tree.path(file), 2**14)
    return _names_images(tree, file, text) and any(map(_is_row, [row for _, row in rows_of(text)[:20]]))


def _head(tree: FileTree, file: PurePosixPath) -> str:
    return next((row for _, row in rows_of(head(tree.path(file), 2**10))), '')


def _is_row(text: str) -> bool:
    words = [word for word in re.split(r'[\s,;|:()\[\]]+', text) if word]
    return sum(to_floats([word]) is not None for word in words) >= _NUMBERS_IN_ROW
