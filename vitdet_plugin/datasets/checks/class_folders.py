"""Checks of classification data before a run: class folders, list files, class names and their order."""

import inspect
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vitdet_plugin.config.dataset_config import IMAGE_SAMPLE, dataset_classes, has_own_reader, joined_path
from vitdet_plugin.config.registry import as_list, find_type
from vitdet_plugin.datasets.checks.findings import Finding, check_metainfo, listed
from vitdet_plugin.datasets.checks.image_sample import find_deep_images
from vitdet_plugin.datasets.image_files import IMAGE_SUFFIXES, MMPRETRAIN_SUFFIXES
from vitdet_plugin.datasets.image_reader import reader_of_pipeline
from vitdet_plugin.datasets.image_sets import read_list_file
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.paths import nearest_folder
from vitdet_plugin.utils.text_files import read_text, starts_with_mark


def is_folder_dataset(cfg: dict) -> bool:
    """Whether a data set is mmpretrain's ``CustomDataset``, or derived from it and reads as it does (``ImageNet``)."""
    found = find_type(cfg)
    return inspect.isclass(found) and not has_own_reader(found) and any(
        base.__name__ == 'CustomDataset' and base.__module__.startswith('mmpretrain') for base in found.__mro__)


def check_folder_dataset(path: str, cfg: dict, is_training: bool) -> list[Finding]:
    """Check one data set of a classification config that contains no other data sets.

    Args:
        path: Key of the data set in the config, for the findings.
        cfg: Its config: ``data_root``, ``data_prefix``, ``split``, ``ann_file``, ``metainfo`` and ``extensions``.
        is_training: Whether a class without images is an error.
    """
    if cfg.get('backend_args'):
        return []  # remote storage: errors come from the data set itself
    findings = check_metainfo(path, cfg)
    folder = image_folder(cfg)
    if '://' in folder:
        return findings
    if not os.path.isdir(folder):
        return findings + [Finding('error', f'{path}: the image folder {os.path.abspath(folder)} does not exist; set '
                                            f'data_root / data_prefix ({nearest_folder(folder)})')]
    list_file = _list_file(cfg)
    if list_file:
        return findings + _check_list(path, cfg, list_file, folder)
    if not cfg.get('with_label', True) or cfg.get('split') == 'test':
        return findings
    return findings + _check_class_folders(path, cfg, folder, is_training)


def image_folder(cfg: dict) -> str:
    """Return the folder that a data set reads images from."""
    prefix = cfg.get('data_prefix') or cfg.get('split') or ''
    if isinstance(prefix, dict):
        prefix = prefix.get('img_path') or ''
    return joined_path(cfg, prefix) or str(cfg.get('data_root') or '.')


def folder_classes(cfg: dict) -> list[str]:
    """Return the class names that a data set without ``metainfo.classes`` takes from its folders, if any."""
    folder = image_folder(cfg)
    return _subfolders(folder) if os.path.isdir(folder) and not _list_file(cfg) else []


def check_topk(key: str, evaluators: Any, classes: Sequence[str]) -> list[Finding]:
    """Check that a top-k accuracy does not need more classes than there are; the first evaluation would fail.

    Args:
        key: Key of the evaluators in the config, for the findings.
        evaluators: Their config.
        classes: Class names of the data set.
    """
    findings = []
    for each in as_list(evaluators):
        topk = each.get('topk') if isinstance(each, dict) else None
        most = max(topk) if isinstance(topk, (list, tuple)) else topk
        if classes and isinstance(most, int) and most > len(classes):
            findings.append(Finding('error', f'{key}: top-{most} accuracy of {len(classes)} classes cannot be '
                                             f'computed; set topk to at most {len(classes)}'))
    return findings


def compare_folders(required: Sequence[str], found: Sequence[str]) -> list[tuple[str, str]]:
    """Compare the class names of a config with the class folders.

    mmpretrain numbers labels by the sorted names of the folders and only compares the counts, so another name or order
    gives wrong names without any message.

    Args:
        required: Names in the config.
        found: Names of the folders, sorted.

    Returns:
        (level, text) pairs; each text contains both lists.
    """
    lists = f'metainfo.classes: {listed(required)}; folders: {listed(found)}'
    if list(required) == list(found):
        return []
    if sorted(required) == sorted(found):
        return [('error', f'the classes are in another order than the sorted folders, so labels would be mixed up; use '
                          f'the order of the folders. {lists}')]
    if len(required) == len(found) and not set(required) & set(found):
        return [('warning', f'the names of the classes differ from those of the folders; the first name is used for '
                            f'the first folder and so on. {lists}')]
    missing = [name for name in required if name not in found]
    extra = [name for name in found if name not in required]
    words = [f'no folder for {listed(missing)}'] if missing else []
    words += [f'no class for the folder {listed(extra)}'] if extra else []
    words = words or ['a class is named more than once']
    return [('error', f'{", ".join(words)}; name one class for every folder. {lists}')]


def _check_class_folders(path: str, cfg: dict, folder: str, is_training: bool) -> list[Finding]:
    found = _subfolders(folder)
    where = os.path.abspath(folder)
    if not found:
        return [Finding('error', f'{path}: {where} has no class folders; it should hold one folder of images for '
                                 'each class, named after it')]
    if hidden := [name for name in found if name.startswith('.')]:
        return [Finding('error', f'{path}: the hidden folder {listed(hidden)} in {where} would count as a class; '
                                 'remove it')]
    findings = []
    named = (cfg.get('metainfo') or {}).get('classes') is not None
    required = dataset_classes(cfg)
    if required is not None and named:
        findings += [Finding(level, f'{path}: {text} ({where})') for level, text in compare_folders(required, found)]
    elif required is not None and len(required) != len(found):  # ImageNet: folders are named by WordNet numbers
        findings.append(Finding('error', f'{path}: {where} has {len(found)} class folders ({listed(found)}) for '
                                         f'{len(required)} classes ({listed(required)})'))
    suffixes = _suffixes(cfg)
    empty = [name for name in found if next(_image_names(os.path.join(folder, name), suffixes), None) is None]
    if empty:
        files = next((file.name for name in empty for file in Path(folder, name).rglob('*') if file.is_file()), None)
        hint = f'; it holds {files}, but only {", ".join(suffixes)} are read' if files else ''
        findings.append(Finding('error' if is_training or len(empty) == len(found) else 'warning',
                                f'{path}: class folder without images in {where}: {listed(empty)}{hint}'))
    reader = reader_of_pipeline(cfg.get('pipeline'))
    findings += [Finding(level, f'{path}: {text}') for level, text in find_deep_images(
        _image_paths(folder, found, suffixes), reader)]
    unread = [name for each in found for name in _image_names(os.path.join(folder, each), IMAGE_SUFFIXES)
              if not name.lower().endswith(suffixes)]
    if unread and not empty:
        missing = sorted({os.path.splitext(name)[1].lower() for name in unread})
        findings.append(Finding('warning', f'{path}: {len(unread)} images in {where} are left out, for example '
                                           f'{unread[0]}: only {", ".join(suffixes)} are read; add '
                                           f'{", ".join(missing)} to extensions'))
    return findings


def _check_list(path: str, cfg: dict, file: str, folder: str) -> list[Finding]:
    """Check a text file with ``<image below the folder> <label>`` on each line, or without labels."""
    where = f'{path}.ann_file'
    if not os.path.isfile(file):
        return [Finding('error', f'{where}: {os.path.abspath(file)} does not exist ({nearest_folder(file)})')]
    if starts_with_mark(file):
        return [Finding('error', f'{where}: {file} begins with a byte order mark, which mmpretrain reads as part of '
                                 'the first name; save it as UTF-8 without the mark')]
    if cfg.get('with_label', True):
        classes = dataset_classes(cfg)
        if classes is None:
            return [Finding('error', f'{path}: a list file numbers the classes but does not name them; add '
                                     "metainfo=dict(classes=('first', 'second'))")]
        try:
            rows = read_list_file(Path(file))
        except UserError as error:
            return [Finding('error', f'{where}: {error}')]
        for number, (_, label) in enumerate(rows, 1):
            if label >= len(classes):
                return [Finding('error', f'{where}: {file}, line {number}: label {label}, but metainfo.classes has '
                                         f'{len(classes)}: {listed(classes)}; labels count from 0')]
        names = [name for name, _ in rows]
    else:
        try:
            names = read_text(file).splitlines()
        except UserError as error:
            return [Finding('error', f'{where}: {error}')]
        if not names:
            return [Finding('error', f'{where}: {file} is empty')]
    sample = names[::max(1, len(names) // IMAGE_SAMPLE)][:IMAGE_SAMPLE]
    findings = [Finding(level, f'{path}: {text}') for level, text in find_deep_images(
        [os.path.join(folder, name) for name in sample], reader_of_pipeline(cfg.get('pipeline')))]
    missing = [name for name in sample if not os.path.isfile(os.path.join(folder, name))]
    if missing:
        shown = ', '.join(missing[:3]) + (', …' if len(missing) > 3 else '')
        return [Finding('error', f'{path}: {len(missing)} of the {len(sample)} images checked are not in '
                                 f'{os.path.abspath(folder)}: {shown}; check that data_prefix matches '
                                 f'the lines of {file}')]
    return findings


def _list_file(cfg: dict) -> str:
    if not cfg.get('ann_file') and cfg.get('split'):  # the lists of ImageNet are used if they exist
        usual = joined_path(cfg, os.path.join('meta', f'{cfg["split"]}.txt'))
        return usual if os.path.isfile(usual) else ''
    return joined_path(cfg, cfg.get('ann_file'))


def _subfolders(folder: str) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())


def _image_names(folder: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    yield from (os.path.basename(path) for path in _image_paths(folder, [''], suffixes))


def _image_paths(folder: str, classes: Sequence[str], suffixes: tuple[str, ...]) -> list[str]:
    return [os.path.join(parent, name) for each in classes
            for parent, _, files in os.walk(os.path.join(folder, each), followlinks=True) for name in files
            if not name.startswith('.') and name.lower().endswith(suffixes)]


def _suffixes(cfg: dict) -> tuple[str, ...]:
    given: Any = cfg.get('extensions')
    if given is None:
        parameters = inspect.signature(find_type(cfg).__init__).parameters
        given = parameters['extensions'].default if 'extensions' in parameters else MMPRETRAIN_SUFFIXES
    return tuple(suffix.lower() for suffix in given)
