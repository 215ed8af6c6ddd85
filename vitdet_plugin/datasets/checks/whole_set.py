"""All findings about a whole data set, annotations and pictures; for ``vitdet check``."""

import os
from collections.abc import Iterator
from pathlib import Path

from vitdet_plugin.datasets.checks.annotations import MOST_DROPPED, check_annotations, dropped_share
from vitdet_plugin.datasets.checks.images import inspect_images, leaves_folder
from vitdet_plugin.datasets.image_suffixes import is_picture
from vitdet_plugin.errors import UserError

Row = tuple[str, str, str]  # level, kind, where


def check_coco_set(ann_file: str, folder: str, jobs: int = 1) -> list[Row]:
    """Findings about a COCO file and its pictures.

    Raises:
        UserError: a file or folder does not exist.
    """
    for path, kind in ((ann_file, 'annotation file'), (folder or '.', 'picture folder')):
        if not os.path.exists(path):
            raise UserError(f'{kind} {os.path.abspath(path)} does not exist')
    from vitdet_plugin.datasets.checks.detection_data import parse_coco
    try:
        content = parse_coco(Path(ann_file).read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
        return [('error', 'the annotation file cannot be read', f'{ann_file}: {error}')]
    problems = check_annotations(content)
    rows = [(problem.level, problem.kind, where) for problem in problems for where in problem.where]
    annotations = content.get('annotations')
    count, share = dropped_share(problems, len(annotations) if isinstance(annotations, list) else 0)
    if share > MOST_DROPPED:
        rows.append(('error', f'more than {MOST_DROPPED:.0%} of the annotations will be left out',
                     f'{count} ({share:.1%})'))
    if not annotations:
        rows.append(('error', 'the file has no annotations', ann_file))
    return rows + list(_check_pictures(content['images'], folder, jobs))


def check_class_folders(folder: str, jobs: int = 1) -> list[Row]:
    """Findings about a folder with one folder a class."""
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f'{root.absolute()} does not exist or is no folder')
    classes = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith('.'))
    if not classes:
        return [('error', 'there are no folders of classes', str(root))]
    rows, pictures = [], []
    for each in classes:
        files = sorted(path for path in each.rglob('*') if path.is_file())
        mine = [path for path in files if is_picture(path)]
        rows += [('error', 'classes without pictures', each.name)] if not mine else []
        rows += [('warning', 'files that are no pictures by their suffix', str(path)) for path in files
                 if not is_picture(path)]
        pictures += [(str(path), None) for path in mine]
    return rows + [_row(fault) for fault in inspect_images(pictures, jobs)]


def sets_of_config(config: str, split: str) -> Iterator[tuple[str | None, str]]:
    """(annotation file or None, picture folder) of every data set of a config's split.

    Raises:
        UserError: the config has no such split.
    """
    from vitdet_plugin.config.dataset_config import joined_path, leaf_datasets
    from vitdet_plugin.config.loading import load_config
    from vitdet_plugin.datasets.checks.class_folders import image_folder, is_folder_dataset
    cfg = load_config(config)
    loader = cfg.get(f'{split}_dataloader')
    if loader is None:
        raise UserError(f'{config} has no {split}_dataloader')
    for _, dataset in leaf_datasets(loader.dataset, ''):
        if is_folder_dataset(dataset):
            yield None, image_folder(dataset)
        else:
            prefix = (dataset.get('data_prefix') or {}).get('img', '')
            yield joined_path(dataset, dataset.get('ann_file')), joined_path(dataset, prefix)


def _check_pictures(images: list[dict], folder: str, jobs: int) -> Iterator[Row]:
    wanted, names = [], set()
    for image in images:
        name = image.get('file_name') or '/'.join(str(image.get('coco_url', '')).split('/')[-2:])
        if not isinstance(name, str) or not name or '\0' in name:
            continue  # told with the annotations
        if leaves_folder(name):
            yield 'error', 'file names that leave the picture folder', f'image {image.get("id")}: {name}'
            continue
        if name in names:
            yield 'warning', 'pictures that are listed twice', f'image {image.get("id")}: {name}'
        names.add(name)
        size = (image.get('width'), image.get('height'))
        wanted.append((os.path.join(folder, name), size if all(isinstance(side, int) for side in size) else None))
    for fault in inspect_images(wanted, jobs):
        yield _row(fault)


def _row(fault) -> Row:
    return fault.level, f'picture {fault.kind}', f'{fault.path} {fault.detail}'.strip()
