"""Checks of detection data before a run: annotation files, class names, image folders. No data set is built."""

import functools
import os
from collections.abc import Sequence
from typing import NamedTuple

from vitdet_plugin.config.dataset_config import dataset_classes, joined_path
from vitdet_plugin.datasets.checks.annotations import (
    MOST_DROPPED,
    NO_MASK,
    AnnotationFault,
    check_annotations,
    dropped_share,
)
from vitdet_plugin.datasets.checks.findings import Finding, check_metainfo, listed
from vitdet_plugin.datasets.checks.image_sample import check_image_sample
from vitdet_plugin.datasets.coco import image_file_name, image_size, leaves_folder, read_coco
from vitdet_plugin.datasets.image_reader import reader_of_pipeline
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.paths import nearest_folder

FULL_PARSE_BYTES = 64 * 2**20  # of larger files only categories and images are decoded; mmdet decodes the rest later


class CocoSummary(NamedTuple):
    """Content of a COCO file that the check before a run uses.

    Attributes:
        classes: Names of the categories in the order of the file.
        file_names: Path of each image below the image folder; None where the entry has no valid one.
        sizes: Annotated (width, height) of each image in pixels; None where the entry has no valid one.
        annotations: Number of annotations; None for a large file, which is not decoded as a whole.
        faults: Faults of the entries; empty for a large file.
    """

    classes: tuple[str | None, ...]
    file_names: tuple[str | None, ...]
    sizes: tuple[tuple[float, float] | None, ...]
    annotations: int | None
    faults: tuple[AnnotationFault, ...] = ()


def check_dataset(path: str, cfg: dict, is_training: bool) -> list[Finding]:
    """Check one data set of a config that contains no other data sets.

    Args:
        path: Key of the data set in the config, for the findings.
        cfg: Its config; ``ann_file``, ``data_root``, ``data_prefix`` and ``metainfo`` are checked.
        is_training: Whether a file without annotations is an error.
    """
    if cfg.get('backend_args') or not isinstance(cfg.get('type'), str):
        return []  # remote storage, or a class: errors come from the data set itself
    findings = check_metainfo(path, cfg)
    ann_file = joined_path(cfg, cfg.get('ann_file'))
    if not ann_file or '://' in ann_file:
        return findings
    if not os.path.isfile(ann_file):
        return findings + [Finding('error', f'{path}.ann_file: {os.path.abspath(ann_file)} does not exist; set '
                                            'data_root / ann_file, or VITDET_DATA for the data of shipped configs '
                                            f'({nearest_folder(ann_file)})')]
    if not ann_file.endswith('.json'):
        return findings
    try:
        summary = summarize_coco(ann_file)
    except UserError as error:
        return findings + [Finding('error', f'{path}.ann_file: {error}')]
    required = dataset_classes(cfg)
    if required is not None:
        findings += [Finding(level, f'{path}: {text} ({ann_file})')
                     for level, text in compare_classes(required, summary.classes)]
    if is_training and summary.annotations == 0:
        findings.append(Finding('error', f'{path}.ann_file: {ann_file} has no annotations; give an annotated split'))
    findings += _check_entries(path, cfg, summary, ann_file)
    return findings + _check_image_files(path, cfg, summary, ann_file)


def compare_classes(required: Sequence[str], found: Sequence[str]) -> list[tuple[str, str]]:
    """Compare the class names of a config with the categories of a file.

    mmdet numbers the labels in the order of the file and ignores names that it does not find, so a missing name or
    another order gives wrong labels without any message.

    Args:
        required: Names in the config.
        found: Names in the file.

    Returns:
        (level, text) pairs; each text contains both lists.
    """
    lists = f'metainfo: {listed(required)}; file: {listed(found)}'
    missing = [name for name in required if name not in found]
    extra = [name for name in found if name not in required]
    if missing:
        return [('error', f'the file has no category {listed(missing)}; make metainfo.classes equal to the names in '
                          f'the file, in its order. {lists}')]
    if [name for name in found if name in set(required)] != list(required):
        return [('error', f'the classes are in another order than in the file, so labels would be mixed up; use the '
                          f'order of the file. {lists}')]
    if extra:
        return [('warning', f'annotations of {listed(extra)} are left out, since metainfo.classes does not name them. '
                            f'{lists}')]
    return []


def summarize_coco(path: str) -> CocoSummary:
    """Read a COCO file, once per process as long as it does not change.

    Of files above 64 MB only the lists of images and categories are decoded.

    Raises:
        UserError: Not valid JSON (with line and column), or not COCO.
    """
    return _summarize_coco(os.path.abspath(path), os.path.getmtime(path))


@functools.lru_cache(maxsize=16)
def _summarize_coco(path: str, _modified: float) -> CocoSummary:
    is_partial = os.path.getsize(path) > FULL_PARSE_BYTES
    content = read_coco(path, needs_annotations=False, is_partial=is_partial)
    return CocoSummary(classes=tuple(each.get('name') for each in content['categories']),
                       file_names=tuple(image_file_name(each) for each in content['images']),
                       sizes=tuple(image_size(each) for each in content['images']),
                       annotations=None if is_partial else len(content['annotations']),
                       faults=() if is_partial else tuple(check_annotations(content)))


def image_folder(cfg: dict) -> str:
    """Return the folder that the file names in a detection data set are relative to; empty for the current one."""
    prefix = cfg.get('data_prefix') or {}
    key = next((name for name in ('img', 'img_path') if name in prefix), None)
    return joined_path(cfg, prefix[key]) if key else cfg.get('data_root') or ''


def _check_entries(path: str, cfg: dict, summary: CocoSummary, ann_file: str) -> list[Finding]:
    """Report errors in the annotations, and how many annotations mmdet will skip."""
    where = f'{path}.ann_file: {ann_file}'
    with_masks = any(isinstance(step, dict) and step.get('with_mask') for step in cfg.get('pipeline') or ())
    findings = [Finding('error', f'{where}: {fault}') for fault in summary.faults
                if fault.level == 'error' or with_masks and fault.kind == NO_MASK]
    count, share = dropped_share(list(summary.faults), summary.annotations or 0)
    if count:
        kinds = '; '.join(str(fault) for fault in summary.faults if fault.level == 'drop')
        level = 'error' if share > MOST_DROPPED else 'warning'
        findings.append(Finding(level, f'{where}: {count} of {summary.annotations} annotations will be left out '
                                       f'({share:.1%}; more than {MOST_DROPPED:.0%} is an error): {kinds}'))
    return findings


def _check_image_files(path: str, cfg: dict, summary: CocoSummary, ann_file: str) -> list[Finding]:
    folder = image_folder(cfg)
    where = f'{path}.data_prefix'
    if '://' in folder:
        return []
    if folder and not os.path.isdir(folder):
        return [Finding('error', f'{where}: the image folder {os.path.abspath(folder)} does not exist; set data_root / '
                                 f'data_prefix ({nearest_folder(folder)})')]
    if None in summary.file_names:
        return [Finding('error', f'{path}.ann_file: {ann_file}: an image has no file_name')]
    outside = [name for name in summary.file_names if leaves_folder(name)]
    if outside and (folder or not all(os.path.isabs(name) for name in outside)):
        return [Finding('error', f'{path}.ann_file: {ann_file}: {len(outside)} file names point outside the image '
                                 f'folder: {", ".join(outside[:3])}')]
    return [Finding(level, f'{where}: {text}') for level, text in check_image_sample(
        folder, summary.file_names, summary.sizes, reader_of_pipeline(cfg.get('pipeline')), ann_file)]
