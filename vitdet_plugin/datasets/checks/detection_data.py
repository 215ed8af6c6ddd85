"""Checks of detection data before a run: annotation files, class names, image folders. No data set is built."""

import functools
import inspect
import os
from collections.abc import Sequence
from typing import NamedTuple

from vitdet_plugin.coco.content import category_name, prepare_coco
from vitdet_plugin.config.dataset_config import dataset_classes, has_own_reader, joined_path, pipeline_steps
from vitdet_plugin.config.registry import find_type, type_name
from vitdet_plugin.datasets.checks.annotations import (
    MOST_DROPPED,
    AnnotationFault,
    check_annotations,
    dropped_share,
    left_out,
)
from vitdet_plugin.datasets.checks.findings import Finding, check_metainfo, listed
from vitdet_plugin.datasets.checks.image_sample import check_image_sample
from vitdet_plugin.datasets.coco import image_file_name, image_size, leaves_folder, read_coco
from vitdet_plugin.datasets.image_reader import reader_of_pipeline
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.paths import nearest_folder

FULL_PARSE_BYTES = 64 * 2**20  # of larger files only categories and images are decoded; mmdet decodes the rest later
_FORMER_KEYS = {'classes': 'metainfo=dict(classes=…)', 'img_prefix': 'data_prefix=dict(img=…)'}


class CocoSummary(NamedTuple):
    """Content of a COCO file that the check before a run uses.

    Attributes:
        classes: Names of the categories in the order of the file.
        file_names: Path of each image below the image folder; None where the entry has no valid one.
        sizes: Annotated (width, height) of each image in pixels; None where the entry has no valid one.
        annotations: Number of annotations; None for a large file, which is not decoded as a whole.
        faults: Faults of the entries; empty for a large file.
        longest_side: Longest side of the images in pixels as annotated; 0 if unknown.
        unused: Categories without annotations; empty for a large file.
    """

    classes: tuple[str | None, ...]
    file_names: tuple[str | None, ...]
    sizes: tuple[tuple[float, float] | None, ...]
    annotations: int | None
    faults: tuple[AnnotationFault, ...] = ()
    longest_side: float = 0
    unused: tuple[str | None, ...] = ()


def check_dataset(path: str, cfg: dict, is_training: bool) -> list[Finding]:
    """Check one data set of a config that contains no other data sets.

    Args:
        path: Key of the data set in the config, for the findings.
        cfg: Its config; ``ann_file``, ``data_root``, ``data_prefix`` and ``metainfo`` are checked. If its class reads
            annotations by itself, only ``metainfo``.
        is_training: Whether a file without annotations is an error, unless the pipeline does not load them.
    """
    if cfg.get('backend_args') or not isinstance(cfg.get('type'), str):
        return []  # remote storage, or a class: errors come from the data set itself
    findings = _check_former_keys(path, cfg) or check_metainfo(path, cfg)
    if has_own_reader(find_type(cfg)):
        return findings
    if isinstance(cfg.get('ann_file'), (list, tuple)):
        return [*findings, Finding('error', f"{path}.ann_file is a list, but a data set reads one file; set {path} to "
                                            "dict(type='ConcatDataset', datasets=[dict(…), dict(…)]) with a data set "
                                            'for each file')]
    ann_file = joined_path(cfg, cfg.get('ann_file'))
    if not ann_file and reads_coco(cfg):
        findings.append(Finding('error', f'{path}: there is no ann_file; set it to a COCO annotation file (.json)'))
    if not ann_file or '://' in ann_file:
        return findings
    where = f'{path}.ann_file'
    if not os.path.exists(ann_file):
        hint = suggest_slash(ann_file, [cfg]) or nearest_folder(ann_file)
        return findings + [Finding('error', f'{where}: {os.path.abspath(ann_file)} does not exist; set data_root / '
                                            f'ann_file, or VITDET_DATA for the data of shipped configs ({hint})')]
    if not reads_coco(cfg):
        return findings
    try:
        summary = summarize_coco(ann_file)
    except UserError as error:
        return findings + [Finding('error', f'{where}: {error}')]
    required = dataset_classes(cfg)
    if required is not None:
        findings += [Finding(level, f'{path}: {text} ({ann_file})')
                     for level, text in compare_classes(required, summary.classes, summary.unused)]
    if is_training and _is_unlabeled(cfg):
        return findings + _check_image_files(path, cfg, summary, ann_file)
    if is_training and summary.annotations == 0:
        findings.append(Finding('error', f'{where}: {ann_file} has no annotations; give an annotated split'))
    findings += _check_entries(path, cfg, summary, ann_file, is_training)
    return findings + _check_image_files(path, cfg, summary, ann_file)


def _check_former_keys(path: str, cfg: dict) -> list[Finding]:
    """Report keys of mmdet 2 that the data set does not take."""
    classes = getattr(find_type(cfg), '__mro__', ())
    taken = {key for each in classes for key in inspect.signature(each.__init__).parameters}
    return [Finding('error', f'{path}.{key} is a key of mmdet 2; write {now}')
            for key, now in _FORMER_KEYS.items() if key in cfg and classes and key not in taken]


def reads_coco(cfg: dict) -> bool:
    """Whether a data set reads a COCO file: its type is ``CocoDataset``, or derived from it and reads as it does."""
    kind = find_type(cfg)
    return any(base.__name__ == 'CocoDataset' for base in getattr(kind, '__mro__', ())) and not has_own_reader(kind)


def suggest_slash(path: str, datasets: Sequence[dict]) -> str:
    """Return a hint if a missing path exists with a slash after the ``data_root`` that it begins with, else ''.

    Args:
        path: Path in a config, such as ``data_root + 'train.json'``.
        datasets: Data sets of the config.
    """
    for dataset in datasets:
        root = str(dataset.get('data_root') or '')
        for part in (root, os.path.basename(root)):
            at = path.rfind(part) if part and not part.endswith('/') else -1
            name = path[at + len(part):]
            fixed = os.path.join(path[:at] + part, name)
            if at >= 0 and name and not name.startswith('/') and os.path.exists(fixed):
                return f'{fixed} exists; data_root={root!r} needs a slash at its end to be joined by +'
    return ''


def compare_classes(required: Sequence[str], found: Sequence[str],
                    unused: Sequence[str | None] = ()) -> list[tuple[str, str]]:
    """Compare the class names of a config with the categories of a file.

    Labels are numbered in the order of the config, whatever the order in the file. mmdet ignores names that the file
    does not have, which gives wrong labels without any message.

    Args:
        required: Names in the config.
        found: Names in the file.
        unused: Those of them that have no annotations, and may be left out.

    Returns:
        (level, text) pairs; each text contains both lists.
    """
    lists = f'metainfo: {listed(required)}; file: {listed(found)}'
    repeated = [name for name in dict.fromkeys(required)
                if list(required).count(name) > max(1, list(found).count(name))]
    if repeated:
        return [('error', f'metainfo.classes names {listed(repeated)} more than once; name each class once. {lists}')]
    found = list(dict.fromkeys(found))  # names that occur twice are reported with the categories
    missing = [name for name in required if name not in found]
    extra = [name for name in found if name not in required and name not in unused]
    if missing:
        return [('error', f'the file has no category {listed(missing)}; make metainfo.classes equal to the names in '
                          f'the file. {lists}')]
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
    prepared = prepare_coco(content).content
    categories, annotations = prepared['categories'], prepared.get('annotations', ())
    used = {str(each.get('category_id')) for each in annotations if isinstance(each, dict)}
    sides = [side for each in content['images'] for side in image_size(each) or ()]
    return CocoSummary(classes=tuple(map(category_name, categories)),
                       file_names=tuple(image_file_name(each) for each in content['images']),
                       sizes=tuple(image_size(each) for each in content['images']),
                       annotations=None if is_partial else len(annotations),
                       faults=() if is_partial else tuple(check_annotations(content)),
                       longest_side=max(sides, default=0),
                       unused=() if is_partial else tuple(category_name(each) for each in categories
                                                          if str(each.get('id')) not in used))


def image_folder(cfg: dict) -> str:
    """Return the folder that the file names in a detection data set are relative to; empty for the current one."""
    prefix = cfg.get('data_prefix') or {}
    key = next((name for name in ('img', 'img_path') if name in prefix), None)
    return joined_path(cfg, prefix[key]) if key else cfg.get('data_root') or ''


def loads_masks(cfg: dict) -> bool:
    """Whether the pipeline of a data set loads masks."""
    return any(isinstance(step, dict) and step.get('with_mask') for step in cfg.get('pipeline') or ())


def _is_unlabeled(cfg: dict) -> bool:
    """Whether the pipeline of a data set, such as the second one of semi-supervised training, ignores annotations."""
    return any(type_name(step) == 'LoadEmptyAnnotations' for _, step in pipeline_steps(cfg.get('pipeline'), ''))


def _check_entries(path: str, cfg: dict, summary: CocoSummary, ann_file: str, is_training: bool) -> list[Finding]:
    """Report errors in the annotations, how many will not be trained on, and whether any is left."""
    where, with_masks = f'{path}.ann_file: {ann_file}', loads_masks(cfg)
    faults = [fault for fault in summary.faults if with_masks or not fault.needs_masks]
    findings = [Finding('error', f'{where}: {fault}') for fault in faults if fault.level == 'error']
    empty = [fault for fault in faults if fault.level == 'empty']
    if is_training and empty:
        why = '; '.join(map(str, left_out(faults, with_masks)))
        return [*findings, Finding('error', f'{where}: {empty[0].kind} ({why})' if why else f'{where}: {empty[0]}')]
    kinds = left_out(faults, with_masks)
    findings += [Finding('warning', f'{where}: {fault}') for fault in faults
                 if fault not in kinds and fault.level == 'warning' or not kinds and fault.level == 'empty']
    count, share = dropped_share(faults, summary.annotations or 0, with_masks)
    if count:
        level = 'error' if share > MOST_DROPPED else 'warning'
        findings.append(Finding(level, f'{where}: {count} of {summary.annotations} annotations will be left out '
                                       f'({share:.1%}; more than {MOST_DROPPED:.0%} is an error): '
                                       f'{"; ".join(map(str, kinds))}'))
    return findings


def _check_image_files(path: str, cfg: dict, summary: CocoSummary, ann_file: str) -> list[Finding]:
    folder = image_folder(cfg)
    where = f'{path}.data_prefix'
    prefix = cfg.get('data_prefix') or {}
    if 'img_path' in prefix and 'img' not in prefix:
        return [Finding('error', f"{where}: mmdet's data sets name the folder of the images 'img', not 'img_path'")]
    if '://' in folder:
        return []
    if folder and not os.path.isdir(folder):
        hint = suggest_slash(folder, [cfg]) or nearest_folder(folder)
        return [Finding('error', f'{where}: the image folder {os.path.abspath(folder)} does not exist; set data_root / '
                                 f'data_prefix ({hint})')]
    if None in summary.file_names:
        return [Finding('error', f'{path}.ann_file: {ann_file}: an image has no file_name')]
    outside = [name for name in summary.file_names if leaves_folder(name)]
    if outside and (folder or not all(os.path.isabs(name) for name in outside)):
        return [Finding('error', f'{path}.ann_file: {ann_file}: {len(outside)} file names point outside the image '
                                 f'folder: {", ".join(outside[:3])}')]
    return [Finding(level, f'{where}: {text}') for level, text in check_image_sample(
        folder, summary.file_names, summary.sizes, reader_of_pipeline(cfg.get('pipeline')), ann_file)]
