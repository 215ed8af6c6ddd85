"""All findings about a whole data set, annotations and images, for the command ``vitdet check``."""

import os
from collections.abc import Mapping
from pathlib import Path

from vitdet_plugin.config.names import OWN_CONFIG
from vitdet_plugin.datasets.checks.annotations import MOST_DROPPED, check_annotations, dropped_share, has_masks
from vitdet_plugin.datasets.checks.images import check_images
from vitdet_plugin.datasets.checks.pipelines import check_pipelines
from vitdet_plugin.datasets.coco import image_file_name, image_size, leaves_folder, read_coco
from vitdet_plugin.datasets.formats import ForeignAnnotations, SeveralFormats, recognize
from vitdet_plugin.datasets.formats.base import LastResort
from vitdet_plugin.datasets.formats.tree import FileTree
from vitdet_plugin.datasets.image_files import MMPRETRAIN_SUFFIXES, is_image_file, list_class_files, list_folders
from vitdet_plugin.datasets.image_probe import ImageProbe
from vitdet_plugin.datasets.image_reader import DEFAULT_READER, ImageReader, reader_of_pipeline
from vitdet_plugin.datasets.image_sets import class_root, read_list_file, split_folders
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.text import counted, escape, is_unicode

Probes = Mapping[str, ImageProbe]
Row = tuple[str, str, str]  # level, kind, where; level 'read' or 'skipped' for what was and was not read


def check_coco_set(ann_file: str, folder: str, jobs: int = 1, with_masks: bool | None = None,
                   is_training: bool = True, reader: ImageReader = DEFAULT_READER,
                   probes: Probes | None = None) -> list[Row]:
    """Return the findings about a COCO file and its images, and what was read.

    Args:
        ann_file: COCO file.
        folder: Folder that the file names are relative to; empty for the current one.
        jobs: Processes for the images.
        with_masks: Whether masks are trained; by default, if any annotation has one.
        is_training: Whether a file in which nothing is left to train on is an error.
        reader: How the pipeline reads the images.
        probes: See :func:`check_images`.

    Raises:
        UserError: The file or the folder does not exist.
    """
    for path, kind in ((ann_file, 'annotation file'), (folder or '.', 'image folder')):
        if not os.path.exists(path):
            raise UserError(f'{kind} {os.path.abspath(path)} does not exist')
    try:
        content = read_coco(ann_file, needs_annotations=False)
    except UserError as error:
        return [('error', 'the annotation file cannot be read', str(error))]
    count = {key: len(content[key]) for key in ('images', 'annotations', 'categories')}
    rows: list[Row] = [('read', ann_file, ', '.join(f'{number} {key}' for key, number in count.items())
                        + f'; images in {os.path.abspath(folder)}')]
    with_masks = has_masks(content) if with_masks is None else with_masks
    problems = check_annotations(content)
    for problem in problems:
        level = problem.level
        if problem.needs_masks and not with_masks:
            continue
        if level == 'empty':
            level = 'error' if is_training else 'warning'
        rows += [(level, problem.kind, where) for where in problem.where or [ann_file]]
    dropped, share = dropped_share(problems, len(content['annotations']), with_masks)
    if share > MOST_DROPPED:
        rows.append(('error', f'more than {MOST_DROPPED:.0%} of the annotations will be left out',
                     f'{dropped} ({share:.1%})'))
    if not content['annotations']:
        rows.append(('error', 'the file has no annotations', ann_file))
    return rows + _check_images(content['images'], folder, jobs, reader, probes)


def check_list_file(ann_file: str, folder: str, jobs: int = 1, reader: ImageReader = DEFAULT_READER,
                    probes: Probes | None = None) -> list[Row]:
    """Return the findings about a list file of mmpretrain (``path label`` on each line) and its images."""
    try:
        listed = read_list_file(Path(ann_file))
    except UserError as error:
        return [('error', 'the annotation file cannot be read', str(error))]
    paths = [os.path.join(folder, name) for name, _ in listed]
    return [('read', ann_file, f'{counted(len(paths), "image")}; in {os.path.abspath(folder)}'),
            *_image_rows(paths, [None] * len(paths), jobs, reader, probes)]


def check_folder(folder: str, jobs: int = 1, form: str | None = None, is_trusted: bool = True) -> list[Row]:
    """Return the findings about a folder: one of ``vitdet init``, class folders, or a data set in another format.

    Args:
        folder: The folder.
        jobs: Processes for the images.
        form: Name of the format, if several fit.
        is_trusted: Whether it may be one of ``vitdet init``, whose config is executed; not the content of an archive.

    Raises:
        UserError: The folder holds data sets of several formats that differ, annotations that are not read, or no data
            set of the given format.
    """
    if is_trusted and (Path(folder) / OWN_CONFIG).is_file():
        return check_splits(str(Path(folder) / OWN_CONFIG), jobs)
    tree = FileTree(Path(folder))
    try:
        found, evidence = recognize(tree, form)
    except (ForeignAnnotations, SeveralFormats):
        raise
    except UserError:
        if form is not None:
            raise
        return check_class_folders(folder, jobs)  # perhaps one class, or only empty ones
    if found.name == 'class-folders' and isinstance(evidence, LastResort):
        return check_class_folders(folder, jobs)
    source = found.read(tree)
    objects = sum(len(image.objects) for image in source.images)
    rows: list[Row] = [('read', folder, f'{found.name}: {evidence}; {counted(len(source.images), "image")}'
                        + f', {counted(objects, "object")}' * (not source.is_classification))]
    if not source.images:
        rows.append(('error', 'no image of the data set can be used', folder))
    rows += [('error', 'class names that are not UTF-8', escape(name)) for name in source.classes
             if not is_unicode(name)]
    rows += [('drop', 'objects or files that cannot be converted', str(problem)) for problem in source.problems]
    rows += [('note', 'remarks about the data set', note) for note in source.notes]
    return rows + _image_rows([str(image.path) for image in source.images], [None] * len(source.images), jobs,
                              DEFAULT_READER)


def check_splits(config: str, jobs: int = 1) -> list[Row]:
    """Return the findings about all splits of a config; a test split that repeats that of validation counts once."""
    from vitdet_plugin.config.dataset_config import distinct_splits
    from vitdet_plugin.config.loading import load_config
    return [row for split, *_ in distinct_splits(load_config(config)) for row in check_config(config, split, jobs)]


def check_class_folders(folder: str, jobs: int = 1, reader: ImageReader = DEFAULT_READER) -> list[Row]:
    """Return the findings about a folder with one folder for each class, and what was read.

    Raises:
        UserError: The folder does not exist.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f'{root.absolute()} does not exist or is not a folder')
    root = class_root(root)
    if splits := split_folders(root):
        others = [each for each in list_folders(root) if each not in splits]
        skipped = [('skipped', str(each), 'a folder next to splits') for each in others]
        return skipped + [row for split in splits for row in check_class_folders(str(split), jobs, reader)]
    classes = list_folders(root)
    if not classes:
        files = sorted(each.name for each in root.glob('*.json'))
        hint = f'; for a COCO file give its path: {", ".join(files[:3])}' if files else ''
        return [('error', f'there are no class folders{hint}', str(root))]
    rows: list[Row] = [('skipped', str(path), 'not a class folder; give the path of an annotation file to check it')
                       for path in sorted(root.iterdir()) if path.suffix in ('.json', '.xml', '.csv', '.yaml')]
    paths: list[str] = []
    for each in classes:
        images, others = list_class_files(each)
        rows += [('error', 'classes without images', each.name)] if not images else []
        rows += [('warning', 'files that are not images by their suffix', str(path)) for path in others]
        rows += [('warning', 'hidden folders in a class, whose images mmpretrain reads', str(path))
                 for path in sorted(each.rglob('.*')) if path.is_dir()]
        paths += map(str, images)
        rows += [('note', 'images that mmpretrain reads only if "extensions" names their suffix', str(path))
                 for path in images if path.suffix.lower() not in MMPRETRAIN_SUFFIXES]
    loose = [path for path in sorted(root.iterdir()) if is_image_file(path) and not path.name.startswith('.')]
    rows += [('warning', 'images outside of the class folders, which are not used', str(path)) for path in loose]
    summary = f'{counted(len(classes), "folder")} of classes, {counted(len(paths), "image")}'
    return [('read', str(root), summary), *rows, *_image_rows(paths, [None] * len(paths), jobs, reader)]


def check_config(config: str, split: str, jobs: int = 1, probes: Probes | None = None) -> list[Row]:
    """Return the findings about every data set of a split of a config, and which of them were not read.

    Args:
        config: Config file, or name of a shipped config.
        split: ``train``, ``val`` or ``test``.
        jobs: Processes for the images.
        probes: See :func:`check_images`.

    Raises:
        UserError: The config has no such split, or a file or folder does not exist.
    """
    from vitdet_plugin.config.dataset_config import joined_path, split_datasets
    from vitdet_plugin.config.loading import load_config
    from vitdet_plugin.datasets.checks import class_folders, detection_data
    cfg = load_config(config)
    if cfg.get(f'{split}_dataloader') is None:
        raise UserError(f'{config} has no {split}_dataloader; choose another --split')
    trains_masks = cfg.get('train_dataloader') is None or any(
        detection_data.loads_masks(dataset) for _, dataset in split_datasets(cfg, 'train'))
    rows: list[Row] = [(level, 'pipeline', text) for level, text in check_pipelines(cfg, [split])]
    for path, dataset in split_datasets(cfg, split):
        file = joined_path(dataset, dataset.get('ann_file'))
        reader = reader_of_pipeline(dataset.get('pipeline'))
        if class_folders.is_folder_dataset(dataset):
            folder = class_folders.image_folder(dataset)
            rows += (check_list_file(file, folder, jobs, reader, probes) if file else
                     check_class_folders(folder, jobs, reader))
        elif dataset.get('backend_args') or '://' in file:
            rows.append(('skipped', f'{path} ({dataset.get("type")})', 'in remote storage'))
        elif file and detection_data.reads_coco(dataset):
            rows += check_coco_set(file, detection_data.image_folder(dataset), jobs,
                                   detection_data.loads_masks(dataset) if split == 'train' else
                                   None if trains_masks else False,
                                   split == 'train', reader, probes)
        else:
            rows.append(('skipped', f'{path} ({dataset.get("type")})', 'neither a COCO file nor a folder of classes: '
                                                                      f'{file or "no ann_file"}'))
    return rows


def _check_images(images: list[dict], folder: str, jobs: int, reader: ImageReader, probes: Probes | None) -> list[Row]:
    rows: list[Row] = []
    paths, sizes, names = [], [], set()
    for image in images:
        name = image_file_name(image)
        if name is None:
            continue  # reported with the annotations
        if leaves_folder(name):
            rows.append(('error', 'file names that point outside the image folder', f'image {image.get("id")}: {name}'))
            continue
        if '\\' in name and os.sep == '/':
            rows.append(('error', 'file names with \\, which is not a separator here; write /',
                         f'image {image.get("id")}: {name}'))
            continue
        if name in names:
            rows.append(('warning', 'images that are listed twice', f'image {image.get("id")}: {name}'))
        names.add(name)
        paths.append(os.path.join(folder, name))
        sizes.append(image_size(image))
    return rows + _image_rows(paths, sizes, jobs, reader, probes)


def _image_rows(paths: list[str], sizes: list[tuple[float, float] | None], jobs: int,
                reader: ImageReader, probes: Probes | None = None) -> list[Row]:
    return [(fault.level, f'image {fault.kind}', f'{fault.path} {fault.detail}'.strip())
            for fault in check_images(paths, sizes, jobs, reader, probes)]
