"""Pre-flight of detection data: annotation files, class names, image folders. No data set is built for it."""

import functools
import json
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from vitdet_plugin.config.dataset_config import IMAGE_SAMPLE, dataset_classes, joined_path
from vitdet_plugin.datasets.checks.annotations import (
    MOST_DROPPED,
    NO_MASK,
    Problem,
    check_annotations,
    dropped_share,
)
from vitdet_plugin.datasets.checks.findings import Finding, check_metainfo, listed
from vitdet_plugin.datasets.checks.images import inspect_image, leaves_folder
from vitdet_plugin.utils.paths import nearest_folder

FULL_PARSE_BYTES = 64 * 2**20  # above this only categories and images are read; mmdet parses the rest anyway


class CocoIndex(NamedTuple):
    """What the pre-flight needs of a COCO file."""

    classes: tuple[str, ...]
    file_names: tuple[str | None, ...]
    annotations: int | None  # None: large file, not counted
    problems: tuple[Problem, ...] = ()


def check_dataset(path: str, cfg: dict, is_training: bool) -> list[Finding]:
    """Check one leaf data set of a config.

    Args:
        path: Its place in the config, named in the findings.
        cfg: Its config; ``ann_file``, ``data_root``, ``data_prefix`` and ``metainfo`` are looked at.
        is_training: Whether annotations are indispensable.
    """
    if cfg.get('backend_args') or not isinstance(cfg.get('type'), str):
        return []  # remote storage, or a class object: the data set itself will speak up
    findings = check_metainfo(path, cfg)
    ann_file = joined_path(cfg, cfg.get('ann_file'))
    if not ann_file or '://' in ann_file:
        return findings
    if not os.path.isfile(ann_file):
        return findings + [Finding('error', f'{path}.ann_file: {os.path.abspath(ann_file)} does not exist; set '
                                            f'data_root / ann_file, see data/README.md ({nearest_folder(ann_file)})')]
    if not ann_file.endswith('.json'):
        return findings
    try:
        index = read_coco_index(ann_file)
    except ValueError as error:
        return findings + [Finding('error', f'{path}.ann_file: {ann_file}: {error}')]
    wanted = dataset_classes(cfg)
    if wanted is not None:
        findings += [Finding(level, f'{path}: {text} ({ann_file})')
                     for level, text in compare_classes(wanted, index.classes)]
    if is_training and index.annotations == 0:
        findings.append(Finding('error', f'{path}.ann_file: {ann_file} has no annotations: nothing to learn from'))
    findings += _check_entries(path, cfg, index, ann_file)
    return findings + _check_images(path, cfg, index, ann_file)


def compare_classes(wanted: Sequence[str], found: Sequence[str]) -> list[tuple[str, str]]:
    """Compare class names of the config with the categories of a file.

    mmdet numbers the labels in the file's order and ignores names that it does not find, so a missing name or another
    order gives wrong labels without any message.

    Returns:
        (level, text) pairs; both lists are in the text.
    """
    lists = f'metainfo: {listed(wanted)}; file: {listed(found)}'
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    if missing:
        return [('error', f'the file has no category {listed(missing)}; make metainfo.classes equal to the names in '
                          f'the file, in its order. {lists}')]
    if [name for name in found if name in set(wanted)] != list(wanted):
        return [('error', f'the classes are in another order than in the file, so labels would be mixed up; use the '
                          f"file's order. {lists}")]
    if extra:
        return [('warning', f'annotations of {listed(extra)} are left out, since metainfo.classes does not name them. '
                            f'{lists}')]
    return []


def read_coco_index(path: str) -> CocoIndex:
    """Read categories and image names of a COCO file, each file once per process.

    Files above 64 MB are not parsed as a whole: the two short lists are decoded where they stand.

    Raises:
        ValueError: Not valid JSON (with line and column), or not COCO.
    """
    return _read_coco_index(os.path.abspath(path), os.path.getmtime(path))


@functools.lru_cache(maxsize=16)
def _read_coco_index(path: str, _modified: float) -> CocoIndex:
    with open(path, encoding='utf-8') as file:
        text = file.read()
    is_whole = len(text) <= FULL_PARSE_BYTES
    content = parse_coco(text, is_whole)
    annotations = content.get('annotations')
    return CocoIndex(classes=tuple(each.get('name') for each in content['categories']),
                     file_names=tuple(_file_name(each) for each in content['images']),
                     annotations=len(annotations) if isinstance(annotations, list) else None,
                     problems=tuple(check_annotations(content)) if is_whole else ())


def parse_coco(text: str, is_whole: bool = True) -> dict:
    """Content of a COCO file with lists of images and categories; in parts, with these two lists alone.

    Raises:
        ValueError: Not valid JSON (with line and column), or not COCO.
    """
    if not text.strip():
        raise ValueError('the file is empty')
    if is_whole:
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f'not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}') from error
        if not isinstance(content, dict):
            raise ValueError(f'expected an object with images, annotations and categories, found a '
                             f'{type(content).__name__}')
    else:
        if not text[-64:].rstrip().endswith('}'):
            raise ValueError('the file ends in the middle: download or copy it again')
        content = {key: _decode_list(text, key) for key in ('images', 'categories')}
    for key in ('images', 'categories'):
        if not isinstance(content.get(key), list) or not all(isinstance(each, dict) for each in content[key]):
            raise ValueError(f'not a COCO file: it needs a list {key!r} of objects')
        if not content[key]:
            raise ValueError(f'the list {key!r} is empty')
    return content


def _decode_list(text: str, key: str) -> Any:
    """Decode the list after ``"key":``; a string inside other data can look the same, so try every place."""
    start, decoder = 0, json.JSONDecoder()
    while (start := text.find(f'"{key}"', start)) >= 0:
        start += len(key) + 2
        colon = start
        while text[colon:colon + 1].isspace():
            colon += 1
        if text[colon:colon + 1] != ':':
            continue
        colon += 1
        while text[colon:colon + 1].isspace():
            colon += 1
        try:
            value, _ = decoder.raw_decode(text, colon)
        except json.JSONDecodeError as error:
            raise ValueError(f'not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}') from error
        if isinstance(value, list):
            return value
    return None


def _check_entries(path: str, cfg: dict, index: CocoIndex, ann_file: str) -> list[Finding]:
    """Errors of the annotations, and how many of them mmdet will leave out."""
    where = f'{path}.ann_file: {ann_file}'
    with_masks = any(isinstance(step, dict) and step.get('with_mask') for step in cfg.get('pipeline') or ())
    findings = [Finding('error', f'{where}: {problem}') for problem in index.problems
                if problem.level == 'error' or with_masks and problem.kind == NO_MASK]
    count, share = dropped_share(list(index.problems), index.annotations or 0)
    if count:
        kinds = '; '.join(str(problem) for problem in index.problems if problem.level == 'drop')
        level = 'error' if share > MOST_DROPPED else 'warning'
        findings.append(Finding(level, f'{where}: {count} of {index.annotations} annotations will be left out '
                                       f'({share:.1%}; more than {MOST_DROPPED:.0%} is an error): {kinds}'))
    return findings


def _check_images(path: str, cfg: dict, index: CocoIndex, ann_file: str) -> list[Finding]:
    prefix = cfg.get('data_prefix') or {}
    key = next((name for name in ('img', 'img_path') if name in prefix), None)
    folder = joined_path(cfg, prefix[key]) if key else cfg.get('data_root') or ''
    where = f'{path}.data_prefix'
    if '://' in folder:
        return []
    if folder and not os.path.isdir(folder):
        return [Finding('error', f'{where}: the image folder {os.path.abspath(folder)} does not exist; set data_root / '
                                 f'data_prefix ({nearest_folder(folder)})')]
    step = max(1, len(index.file_names) // IMAGE_SAMPLE)
    sample = index.file_names[::step][:IMAGE_SAMPLE]
    if not all(isinstance(name, str) and name and '\0' not in name for name in index.file_names):
        return [Finding('error', f'{path}.ann_file: {ann_file}: an image has no file_name')]
    outside = [name for name in index.file_names if leaves_folder(name)]
    if outside and (folder or not all(os.path.isabs(name) for name in outside)):
        return [Finding('error', f'{path}.ann_file: {ann_file}: {len(outside)} file names leave the image folder: '
                                 f'{", ".join(outside[:3])}')]
    missing = [name for name in sample if not os.path.isfile(os.path.join(folder, name))]
    if not missing:
        broken = [fault for name in sample for fault in inspect_image(os.path.join(folder, name))
                  if fault.level == 'error']
        return [Finding('error', f'{where}: {fault}; "vitdet check" reads all images') for fault in broken]
    shown = ', '.join(missing[:3]) + (', …' if len(missing) > 3 else '')
    return [Finding('error', f'{where}: {len(missing)} of {len(sample)} images looked for are not in '
                             f'{os.path.abspath(folder)}: {shown}; does data_prefix.img fit the file_name entries of '
                             f'{ann_file}?')]


def _file_name(image: dict) -> str | None:
    """Path below the image folder; LVIS gives it as the last two parts of ``coco_url``, train2017/000000000001.jpg."""
    if 'file_name' not in image and 'coco_url' in image:
        return '/'.join(image['coco_url'].split('/')[-2:])
    return image.get('file_name')
