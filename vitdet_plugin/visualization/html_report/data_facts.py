"""Facts about the data set of a config: images, objects, sizes and classes of each split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from mmengine.config import Config
from PIL import Image

from vitdet_plugin.config.dataset_config import distinct_splits, joined_path, split_datasets
from vitdet_plugin.datasets.image_reader import DEFAULT_READER
from vitdet_plugin.datasets.set_stats import box_areas
from vitdet_plugin.engine.load_model import build_dataset
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.text import counted
from vitdet_plugin.visualization.html_report.elements import folded, note, section, table, tag

_MOST_PROBLEMS, _MOST_HEADERS = 200, 400  # lines of problems.txt; image files of a classifier that are opened


@dataclass
class SplitFacts:
    """Facts about one split.

    Attributes:
        name: Name of the split, or of several that use the same data.
        images: Number of images.
        objects: Number of objects, or of images for a classifier, of the first classes; the others have none.
        sizes: (N, 2) width and height of images in pixels; for a classifier those of a sample.
        box_sizes: (M, 2) width and height of boxes in pixels; None for a classifier.
        empty: Number of images without objects; None for a classifier.
    """

    name: str
    images: int
    objects: np.ndarray
    sizes: np.ndarray
    box_sizes: np.ndarray | None = None
    empty: int | None = None


def data_section(cfg: Config, classes: Sequence[str], is_classifier: bool, problems: Path | None) -> Element:
    """Describe the splits of a config.

    Args:
        cfg: The config.
        classes: Names of the classes.
        is_classifier: Whether images have classes, not objects.
        problems: The list of what ``vitdet init`` could not convert, if there is one.
    """
    facts, missing, names = [], [], list(classes)
    for splits in distinct_splits(cfg):
        name = ' = '.join(splits)
        try:
            parts = _leaves(build_dataset(cfg, splits[-1]))
            names = list(parts[0].metainfo.get('classes') or names)
            facts.append((_classifier_facts if is_classifier else _detector_facts)(name, parts))
        except UserError as error:
            missing.append(note(f'{name} is left out: {error}'))
    what = 'images' if is_classifier else 'objects'
    content: list[Any] = []
    if facts:
        rows = [['images', *(str(each.images) for each in facts)]]
        if not is_classifier:
            rows += [['objects', *(str(each.objects.sum()) for each in facts)],
                     ['objects per image', *(f'{each.objects.sum() / max(each.images, 1):.1f}' for each in facts)],
                     ['images without objects', *(str(each.empty) for each in facts)]]
        rows += [['image width', *(_range(each.sizes[:, 0]) for each in facts)],
                 ['image height', *(_range(each.sizes[:, 1]) for each in facts)]]
        if not is_classifier:
            areas = [box_areas(each.box_sizes) for each in facts if each.box_sizes is not None]
            rows += [[f'{size} boxes', *(str(each[size]) for each in areas)] for size in areas[0]]
            rows += [['side of a box', *(_range(np.sqrt(each.box_sizes.prod(1))) for each in facts
                                         if each.box_sizes is not None)]]
        content.append(table(['', *(each.name for each in facts)], rows, is_sortable=False))
        names += [f'class {label}' for label in range(len(names), max(len(each.objects) for each in facts))]
        per_class = [[name, *(str(each.objects[label:label + 1].sum()) for each in facts)]
                     for label, name in enumerate(names)]
        content.append(tag('h3', f'{what.capitalize()} of each class'))
        content.append(table(['class', *(each.name for each in facts)], per_class))
        content.append(note('Lengths in pixels: smallest, median and largest. Images as training uses them, without '
                            'those that the config filters out.'
                            + ('' if is_classifier else ' Small: below 32 x 32 pixels; large: from 96 x 96.')))
    return section('Data set', content, missing, _problems(problems))


def missing_files(cfg: Config, split: str) -> list[str]:
    """Return the annotation files and folders of a split that do not exist; files on other machines are not checked."""
    missing = []
    for _, leaf in split_datasets(cfg, split):
        prefix = leaf.get('data_prefix')
        names = [leaf.get('ann_file'), *(prefix.values() if isinstance(prefix, dict) else [prefix])]
        paths = [joined_path(leaf, name) for name in names if isinstance(name, str) and name]
        missing += [path for path in paths if '://' not in path and not Path(path).exists()]
    return missing


def _leaves(dataset: Any) -> list[Any]:
    """Return the data sets inside those that repeat, mix or join others."""
    if hasattr(dataset, 'datasets'):
        return [leaf for each in dataset.datasets for leaf in _leaves(each)]
    if hasattr(dataset, 'dataset'):
        return _leaves(dataset.dataset)
    if hasattr(dataset, 'full_init'):
        dataset.full_init()
    return [dataset]


def _infos(parts: Sequence[Any]) -> Iterator[dict]:
    return (part.get_data_info(index) for part in parts for index in range(len(part)))


def _detector_facts(name: str, parts: Sequence[Any]) -> SplitFacts:
    images, labels, sizes, box_sizes, empty = 0, [], [], [], 0
    for info in _infos(parts):
        counted = [each for each in info.get('instances', ()) if not each.get('ignore_flag')]
        for each in counted:
            labels.append(int(each['bbox_label']))
            x1, y1, x2, y2 = each['bbox']
            box_sizes.append((x2 - x1, y2 - y1))
        images += 1
        empty += not counted
        if info.get('width') and info.get('height'):
            sizes.append((info['width'], info['height']))
    return SplitFacts(name, images, np.bincount(np.array(labels, int)), np.array(sizes, float).reshape(-1, 2),
                      np.array(box_sizes, float).reshape(-1, 2), empty)


def _classifier_facts(name: str, parts: Sequence[Any]) -> SplitFacts:
    infos = list(_infos(parts))
    labels = [int(np.asarray(info['gt_label']).flat[0]) for info in infos if np.size(info.get('gt_label')) == 1]
    chosen = np.unique(np.linspace(0, max(len(infos) - 1, 0), min(len(infos), _MOST_HEADERS)).astype(int))
    sizes = [size for index in chosen if (size := _image_size(infos[index].get('img_path')))]
    return SplitFacts(name, len(infos), np.bincount(np.array(labels, int)), np.array(sizes, float).reshape(-1, 2))


def _image_size(path: Any) -> tuple[int, int] | None:
    """Return width and height of an image as it is read; only the header of the file is decoded."""
    try:
        with Image.open(path) as image:
            turned = DEFAULT_READER.orientation(image, path) >= 5
            return image.size[::-1] if turned else image.size  # type: ignore[return-value]
    except (OSError, ValueError, AttributeError, SyntaxError):
        return None


def _range(values: np.ndarray) -> str:
    if not len(values):
        return '–'
    low, middle, high = values.min(), np.median(values), values.max()
    return f'{low:.0f}' if low == high else f'{low:.0f} · {middle:.0f} · {high:.0f}'


def _problems(file: Path | None) -> Element | None:
    if file is None:
        return None
    lines = file.read_text(encoding='utf-8', errors='replace').splitlines()
    more = f'\n… and {len(lines) - _MOST_PROBLEMS} more in {file}' if len(lines) > _MOST_PROBLEMS else ''
    return folded(f'{counted(len(lines), "problem")} that vitdet init found ({file.name})',
                  tag('pre', '\n'.join(lines[:_MOST_PROBLEMS]) + more))
