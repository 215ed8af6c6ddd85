"""Pre-flight of classification data: class folders, list files, class names and their order."""

import inspect
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vitdet_plugin.config.dataset_config import IMAGE_SAMPLE, dataset_classes, joined_path
from vitdet_plugin.config.registry import find_registered
from vitdet_plugin.datasets.checks.findings import Finding, check_metainfo, listed
from vitdet_plugin.utils.paths import nearest_folder


def is_folder_dataset(cfg: dict) -> bool:
    """Whether a data set config is one of mmpretrain's ``CustomDataset`` kind (ImageNet among them)."""
    found = find_registered(str(cfg.get('type')))
    return inspect.isclass(found) and any(
        base.__name__ == 'CustomDataset' and base.__module__.startswith('mmpretrain') for base in found.__mro__)


def check_folder_dataset(path: str, cfg: dict, is_training: bool) -> list[Finding]:
    """Check one leaf data set of a classification config.

    Args:
        path: Its place in the config, named in the findings.
        cfg: Its config: ``data_root``, ``data_prefix``, ``split``, ``ann_file``, ``metainfo`` and ``extensions``.
        is_training: Whether a class without pictures is an error.
    """
    if cfg.get('backend_args'):
        return []  # remote storage: the data set itself will speak up
    findings = check_metainfo(path, cfg)
    folder = image_folder(cfg)
    if '://' in folder:
        return findings
    if not os.path.isdir(folder):
        return findings + [Finding('error', f'{path}: the picture folder {os.path.abspath(folder)} does not exist; set '
                                            f'data_root / data_prefix ({nearest_folder(folder)})')]
    list_file = _list_file(cfg)
    if list_file:
        return findings + _check_list(path, cfg, list_file, folder)
    if not cfg.get('with_label', True) or cfg.get('split') == 'test':
        return findings
    return findings + _check_class_folders(path, cfg, folder, is_training)


def image_folder(cfg: dict) -> str:
    """The folder below which a data set looks for pictures."""
    prefix = cfg.get('data_prefix') or cfg.get('split') or ''
    if isinstance(prefix, dict):
        prefix = prefix.get('img_path') or ''
    return joined_path(cfg, prefix) or str(cfg.get('data_root') or '.')


def folder_classes(cfg: dict) -> list[str]:
    """Class names that a data set without ``metainfo.classes`` takes from its folders; empty if there are none."""
    folder = image_folder(cfg)
    return _subfolders(folder) if os.path.isdir(folder) and not _list_file(cfg) else []


def check_topk(key: str, evaluators: Any, classes: Sequence[str]) -> list[Finding]:
    """Top-5 accuracy of three classes would end the run at its first evaluation."""
    findings = []
    for each in evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]:
        topk = each.get('topk') if isinstance(each, dict) else None
        most = max(topk) if isinstance(topk, (list, tuple)) else topk
        if classes and isinstance(most, int) and most > len(classes):
            findings.append(Finding('error', f'{key}: top-{most} accuracy of {len(classes)} classes cannot be '
                                             f'computed; set topk to at most {len(classes)}'))
    return findings


def compare_folders(wanted: Sequence[str], found: Sequence[str]) -> list[tuple[str, str]]:
    """Compare class names of the config with the class folders; both lists are in the text.

    mmpretrain numbers labels by the folders' sorted names and only compares the counts, so another name or order gives
    wrong names without any message.

    Returns:
        (level, text) pairs.
    """
    lists = f'metainfo.classes: {listed(wanted)}; folders: {listed(found)}'
    if list(wanted) == list(found):
        return []
    if sorted(wanted) == sorted(found):
        return [('error', f'the classes are in another order than the sorted folders, so labels would be mixed up; use '
                          f'the order of the folders. {lists}')]
    if len(wanted) == len(found) and not set(wanted) & set(found):
        return [('warning', f'classes are named otherwise than their folders; the first name stands for the first '
                            f'folder and so on. {lists}')]
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    words = [f'no folder for {listed(missing)}'] if missing else []
    words += [f'no class for the folder {listed(extra)}'] if extra else []
    return [('error', f'{", ".join(words)}; name one class for every folder. {lists}')]


def _check_class_folders(path: str, cfg: dict, folder: str, is_training: bool) -> list[Finding]:
    found = _subfolders(folder)
    where = os.path.abspath(folder)
    if not found:
        return [Finding('error', f'{path}: {where} has no class folders; it should hold one folder of pictures for '
                                 'each class, named after it')]
    if hidden := [name for name in found if name.startswith('.')]:
        return [Finding('error', f'{path}: the hidden folder {listed(hidden)} in {where} would count as a class; '
                                 'remove it')]
    findings = []
    named = (cfg.get('metainfo') or {}).get('classes') is not None
    wanted = dataset_classes(cfg)
    if wanted is not None and named:
        findings += [Finding(level, f'{path}: {text} ({where})') for level, text in compare_folders(wanted, found)]
    elif wanted is not None and len(wanted) != len(found):  # ImageNet: folders are named by WordNet's numbers
        findings.append(Finding('error', f'{path}: {where} has {len(found)} class folders ({listed(found)}) for '
                                         f'{len(wanted)} classes ({listed(wanted)})'))
    suffixes = _suffixes(cfg)
    empty = [name for name in found if next(_pictures(os.path.join(folder, name), suffixes), None) is None]
    if empty:
        files = next((file.name for name in empty for file in Path(folder, name).rglob('*') if file.is_file()), None)
        hint = f'; it holds {files}, but only {", ".join(suffixes)} count' if files else ''
        findings.append(Finding('error' if is_training or len(empty) == len(found) else 'warning',
                                f'{path}: class folder without pictures in {where}: {listed(empty)}{hint}'))
    return findings


def _check_list(path: str, cfg: dict, file: str, folder: str) -> list[Finding]:
    """A text file with ``<picture below the folder> <label>`` a line."""
    where = f'{path}.ann_file'
    if not os.path.isfile(file):
        return [Finding('error', f'{where}: {os.path.abspath(file)} does not exist ({nearest_folder(file)})')]
    lines = Path(file).read_text(encoding='utf-8').splitlines()
    if not lines:
        return [Finding('error', f'{where}: {file} is empty')]
    names = lines
    if cfg.get('with_label', True):
        classes = dataset_classes(cfg)
        if classes is None:
            return [Finding('error', f'{path}: a list file numbers the classes but does not name them; add '
                                     "metainfo=dict(classes=('first', 'second'))")]
        pairs = [line.strip().rsplit(' ', 1) for line in lines]
        for number, pair in enumerate(pairs, 1):
            if len(pair) != 2 or not pair[1].isdecimal():
                return [Finding('error', f'{where}: {file}, line {number}: expected "<picture> <label>", found '
                                         f'{lines[number - 1]!r}')]
            if int(pair[1]) >= len(classes):
                return [Finding('error', f'{where}: {file}, line {number}: label {pair[1]}, but metainfo.classes has '
                                         f'{len(classes)}: {listed(classes)}; labels count from 0')]
        names = [name for name, _ in pairs]
    sample = names[::max(1, len(names) // IMAGE_SAMPLE)][:IMAGE_SAMPLE]
    missing = [name for name in sample if not os.path.isfile(os.path.join(folder, name))]
    if missing:
        shown = ', '.join(missing[:3]) + (', …' if len(missing) > 3 else '')
        return [Finding('error', f'{path}: {len(missing)} of {len(sample)} pictures looked for are not in '
                                 f'{os.path.abspath(folder)}: {shown}; does data_prefix fit the lines of {file}?')]
    return []


def _list_file(cfg: dict) -> str:
    if not cfg.get('ann_file') and cfg.get('split'):  # ImageNet's own lists are used where they are
        usual = joined_path(cfg, os.path.join('meta', f'{cfg["split"]}.txt'))
        return usual if os.path.isfile(usual) else ''
    return joined_path(cfg, cfg.get('ann_file'))


def _subfolders(folder: str) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())


def _pictures(folder: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    for _, _, files in os.walk(folder, followlinks=True):
        yield from (name for name in files if not name.startswith('.') and name.lower().endswith(suffixes))


def _suffixes(cfg: dict) -> tuple[str, ...]:
    given: Any = cfg.get('extensions')
    if given is None:
        parameters = inspect.signature(find_registered(str(cfg['type'])).__init__).parameters
        given = parameters['extensions'].default if 'extensions' in parameters else \
            ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')  # mmpretrain's
    return tuple(suffix.lower() for suffix in given)
