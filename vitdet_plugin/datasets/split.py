"""Splits of a folder of classes into train, val and test: stratified, reproducible, with groups kept together."""

from __future__ import annotations

import csv
import os
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vitdet_plugin.datasets.image_sets import ImageSet
from vitdet_plugin.datasets.stratify import choose_part
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.output_files import write_text
from vitdet_plugin.utils.text_files import read_text
from vitdet_plugin.utils.track import track


def split_indices(labels: Sequence[int], fractions: Sequence[float], seed: int = 0,
                  groups: Sequence[str] | None = None, classes: Sequence[str] = ()) -> list[np.ndarray]:
    """Divide samples into splits so that every split has the same proportions of classes.

    Args:
        labels: (N,) class of each sample.
        fractions: Share of each split; they sum to 1, zero leaves a split empty.
        seed: The same seed gives the same splits.
        groups: (N,) name of the group of each sample (plant, patient, scene); a group is never divided. The shares are
            then as close as whole groups allow.
        classes: Names of the classes, for messages.

    Returns:
        Sorted indices of each split.

    Raises:
        UserError: The fractions are invalid, or there are too few samples or groups for them.
    """
    shown = ' '.join(f'{each:g}' for each in fractions)
    if len(fractions) < 2 or not all(0 <= each < 1 for each in fractions) or abs(sum(fractions) - 1) > 1e-6:
        raise UserError(f'fractions {shown} must be in [0, 1) and sum to 1')
    if fractions[0] == 0:
        raise UserError(f'fractions {shown}: the first split, which is trained on, needs a fraction above 0')
    if not 0 <= seed < 2**32:
        raise UserError(f'seed {seed}: give a number from 0 to 4294967295')
    labels = np.asarray(labels)
    if groups is None:
        parts = _divide_samples(labels, list(fractions), seed, classes)
    else:
        parts = _divide_groups(labels, list(fractions), seed, groups)
    return [np.sort(part) for part in parts]


def _divide_samples(labels: np.ndarray, fractions: list[float], seed: int,
                    classes: Sequence[str]) -> list[np.ndarray]:
    """Draw one split after the other, the last first, each stratified from the remaining samples."""
    from sklearn.model_selection import train_test_split
    rest, left, parts = np.arange(len(labels)), 1.0, []
    for fraction in fractions[:0:-1]:
        part = rest[:0]
        if fraction > 0:
            size = round(fraction / left * len(rest)) or 1
            _check_division(labels, rest, size, sum(each > 0 for each in fractions), classes)
            rest, part = train_test_split(rest, test_size=size, stratify=labels[rest], random_state=seed)
        left -= fraction
        parts.append(part)
    return [rest, *parts[::-1]]


def _check_division(labels: np.ndarray, rest: np.ndarray, size: int, splits: int, classes: Sequence[str]) -> None:
    """Check that ``size`` samples of ``rest``, and those that remain, can hold each class."""
    counts = Counter(labels[rest].tolist())
    few = [str(classes[label]) if classes else f'number {label}' for label, count in counts.items() if count < 2]
    if few:
        have = Counter(labels.tolist())
        fewest = min(have[label] for label, count in counts.items() if count < 2)
        raise UserError(f'classes with too few images for {splits} splits: {", ".join(few[:5])}'
                        f'{", …" if len(few) > 5 else ""} ({fewest} image{"s" if fewest > 1 else ""}); add images, '
                        'move the folders of these classes, or set the fraction of a split to 0')
    smaller = min(size, len(rest) - size)
    if smaller < len(counts):
        raise UserError(f'a split of {smaller} images cannot hold each of the {len(counts)} classes; give a larger '
                        'fraction, or 0 for no such split')


def _divide_groups(labels: np.ndarray, fractions: list[float], seed: int, groups: Sequence[str]) -> list[np.ndarray]:
    """Choose whole groups for one split after the other, the last first, each stratified from the remaining ones."""
    names = np.unique(np.asarray(groups), return_inverse=True)[1]
    splits = sum(fraction > 0 for fraction in fractions)
    if names.max() + 1 < splits:
        raise UserError(f'{names.max() + 1} groups cannot be divided into {splits} splits; use more groups or fewer '
                        'splits')
    rest, left, parts = np.arange(len(labels)), 1.0, []
    for fraction in fractions[:0:-1]:
        part = rest[:0]
        if fraction > 0:
            chosen = choose_part([Counter([label]) for label in labels[rest].tolist()], names[rest].tolist(),
                                 fraction / left, seed)
            part, rest = rest[chosen], np.delete(rest, chosen)
        left -= fraction
        parts.append(part)
    return [rest, *parts[::-1]]


def groups_by_pattern(files: Sequence[str], pattern: str) -> list[str]:
    """Return the part of each file name that ``pattern`` matches: its first group in parentheses, or the whole match.

    Raises:
        UserError: ``pattern`` is not a regular expression, or does not match a name.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f'--group-pattern {pattern}: not a regular expression ({error}); correct it') from error
    found = []
    for name in files:
        match = expression.search(name)
        if match is None:
            raise UserError(f'--group-pattern {pattern} does not match {name}')
        found.append(match[1] if expression.groups else match[0])
    return found


def groups_from_csv(files: Sequence[str], path: str | Path) -> list[str]:
    """Return the group of each file from a table with the columns ``file`` and ``group``.

    Raises:
        UserError: The table is missing, lacks a column, or lacks a file.
    """
    if not Path(path).is_file():
        raise UserError(f'{path} does not exist; give a CSV table with the columns file and group')
    text = read_text(path)
    separator = ';' if ';' in text.partition('\n')[0] else ','  # spreadsheets of some countries write semicolons
    rows = list(csv.DictReader(text.splitlines(keepends=True), delimiter=separator))
    if not rows or not {'file', 'group'} <= rows[0].keys():
        raise UserError(f'{path}: expected a CSV table with the columns file and group')
    group_of = {row['file']: row['group'] for row in rows}
    missing = [name for name in files if name not in group_of]
    if missing:
        raise UserError(f'{path} lacks {len(missing)} of {len(files)} images: {", ".join(missing[:3])}; the column '
                        'file holds paths relative to the folder of classes')
    return [group_of[name] for name in files]


def write_split(images: ImageSet, parts: Mapping[str, Sequence[int]], out: str | Path, mode: str = 'list') -> Path:
    """Write a split to a new folder; the source is not changed.

    Args:
        images: The data set.
        parts: Names of the splits and indices into ``images``.
        out: Folder that does not exist or is empty, outside the class folders.
        mode: ``list``: ``<split>.txt`` with lines ``path label`` for mmpretrain's ``CustomDataset``; ``link``:
            ``<split>/<class>/<image>`` as symbolic links; ``copy``: the same as files. ``classes.txt`` in each case.

    Returns:
        ``out``.

    Raises:
        UserError: ``out`` is not empty, or it is inside the data set, where its files would become samples.
    """
    out, root = Path(out), images.root.resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f'{out} exists and is not empty; nothing is overwritten: choose another --out')
    if out.resolve().is_relative_to(root):
        raise UserError(f'{out} is in {images.root}, where it would be read as a class; choose another --out')
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / 'classes.txt', '\n'.join(images.classes) + '\n')
    for split, indices in parts.items():
        if mode == 'list':
            lines = [f'{images.files[index]} {images.labels[index]}\n' for index in indices]
            write_text(out / f'{split}.txt', ''.join(lines))
            continue
        for name in images.classes:  # a class without images in a split keeps its number
            (out / split / name).mkdir(parents=True)
        for index in track(indices, len(indices), f'{split} images'):
            target = out / split / images.files[index]
            target.parent.mkdir(parents=True, exist_ok=True)
            if mode == 'copy':
                shutil.copy2(images.path(index), target)
            else:
                os.symlink(images.path(index).resolve(), target)
    return out


def describe_split(images: ImageSet, parts: Mapping[str, Sequence[int]]) -> str:
    """Return a table of the number of images of each class in each split."""
    counts = {split: Counter(images.labels[index] for index in indices) for split, indices in parts.items()}
    width = max(len(name) for name in (*images.classes, 'all'))
    lines = [f'{"":<{width}}' + ''.join(f'{split:>8}' for split in parts)]
    for label, name in enumerate(images.classes):
        lines.append(f'{name:<{width}}' + ''.join(f'{counts[split][label]:>8}' for split in parts))
    lines.append(f'{"all":<{width}}' + ''.join(f'{len(parts[split]):>8}' for split in parts))
    return '\n'.join(lines)


def empty_classes(images: ImageSet, parts: Mapping[str, Sequence[int]]) -> list[str]:
    """Return ``class in split`` for every class without images in a split that is not empty."""
    return [f'{name} in {split}' for split, indices in parts.items() if len(indices)
            for label, name in enumerate(images.classes) if label not in {images.labels[index] for index in indices}]
