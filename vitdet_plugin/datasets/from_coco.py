"""Conversion of the boxes of a COCO file to the XML files of Pascal VOC and the text files of YOLO."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from xml.sax.saxutils import escape

from vitdet_plugin.coco.content import prepare_coco
from vitdet_plugin.compat.coco_api import has_mask
from vitdet_plugin.datasets.coco import (
    annotation_box,
    describe_annotation,
    find_bad_reference,
    find_image_folder,
    image_file_name,
    image_size,
    is_crowd,
    leaves_folder,
    require_class_names,
    require_index,
)
from vitdet_plugin.datasets.conversion import Problem, check_box, probe_header
from vitdet_plugin.utils.track import track


def read_objects(content: dict, path: Path, clip: bool = False, folder: Path | None = None,
                 notes: list[str] | None = None) -> tuple[list[tuple[dict, list]], list[str], list[Problem]]:
    """Collect the objects of each image.

    Args:
        content: From :func:`vitdet_plugin.datasets.coco.read_coco`.
        path: Its file, for messages and to find the images.
        clip: See :func:`vitdet_plugin.datasets.conversion.check_box`.
        folder: Folder of the images; by default :func:`vitdet_plugin.datasets.coco.find_image_folder`. Sizes that the
            file does not state are read from the images, others are compared.
        notes: List that receives other remarks.

    Returns:
        Images, each with a list of ``(label, [x1, y1, x2, y2])`` in pixels; class names, in the order of the labels;
        and problems. A crowd is a problem too, since the other formats have no equivalent.

    Raises:
        UserError: An image or category has no id or one that occurs twice, or a category has no name.
    """
    content = prepare_coco(content).content
    categories = require_index(content['categories'], 'category', path)
    labels = {key: label for label, key in enumerate(categories)}
    all_images = require_index(content['images'], 'image', path)
    problems: list[Problem] = []
    found = _usable_images(all_images, path, folder or find_image_folder(content['images'], path), problems,
                           [] if notes is None else notes)
    without_image = masks = 0
    for number, annotation in enumerate(content['annotations']):
        wrong = find_bad_reference(annotation, all_images, categories)
        if wrong is None and annotation['image_id'] not in found:
            without_image += 1
            continue
        if wrong is None:
            image, objects = found[annotation['image_id']]
            box, wrong = _convert_box(annotation, image, clip)
        if wrong:
            problems.append(Problem(path, None, f'{describe_annotation(annotation, number)}: {wrong}'))
        else:
            objects.append((labels[annotation['category_id']], box))
            masks += has_mask(annotation)
    if masks and notes is not None:
        notes.append(f'{masks} masks are not written: the files have boxes only')
    if without_image:
        problems.append(Problem(path, None, f'{without_image} annotations: their images cannot be converted'))
    return list(found.values()), require_class_names(content['categories'], path), problems


def _usable_images(images: dict, path: Path, folder: Path | None, problems: list[Problem], notes: list[str]
                   ) -> dict[int | str, tuple[dict, list]]:
    """Images by id that can be written to the other formats, each with an empty list of objects."""
    found: dict[int | str, tuple[dict, list]] = {}
    used: dict[PurePosixPath, str] = {}
    folded: dict[str, str] = {}
    backslashes = unread = sizes_read = 0
    for key, image in track(images.items(), len(images), 'images'):
        name, size = image_file_name(image), image_size(image)
        backslashes += bool(name and '\\' in name)
        name = name and name.replace('\\', '/')
        wrong = None
        if name is None:
            wrong = 'no file_name'
        elif leaves_folder(name) or leaves_folder(str(image.get('file_name'))):
            wrong = f'file_name {name!r} points outside the image folder'
        elif (stem := PurePosixPath(name).with_suffix('')) in used:
            wrong = (f'file_name {name!r} would be written to the same file as {used[stem]!r}, {stem}; rename one of '
                     'the images')
        else:
            size, wrong, is_read = _compare_with_file(size, name, folder)
            unread += not is_read
            sizes_read += is_read and image_size(image) is None
        if wrong:
            problems.append(Problem(path, None, f'image {key}: {wrong}'))
            continue
        used[stem] = name
        if (other := folded.setdefault(str(stem).casefold(), name)) != name:
            notes.append(f'warning: {name!r} and {other!r} differ in upper and lower case only; on Windows and macOS '
                         'the files written for them overwrite each other')
        found[key] = dict(image, file_name=name, width=size[0], height=size[1]), []
    if backslashes:
        notes.append(f'{backslashes} file names have backslashes, which are converted to /')
    if sizes_read:
        notes.append(f'{sizes_read} sizes that the file does not state are read from the images')
    if unread:
        notes.append(f'{unread} sizes are taken from the file, since the images were not found or cannot be read '
                     '(--images DIR)')
    return found


def _compare_with_file(size: tuple[float, float] | None, name: str,
                       folder: Path | None) -> tuple[tuple[float, float], str | None, bool]:
    """Size of an image, why it cannot be used or None, and whether the image was read."""
    if folder is None or not (folder / name).is_file():
        where = f' and {name} is not in {folder}' if folder else '; give the folder of the images (--images DIR)'
        return size or (0, 0), None if size else f'no width and height in pixels{where}', False
    probe = probe_header(folder / name)
    if isinstance(probe, str):
        return size or (0, 0), None if size else f'no width and height in pixels, and {name}: {probe}', False
    difference = probe.compare_size(size) if size else ''
    return probe.size_as_read, f'{folder / name} is {difference}' if difference else None, True


def _convert_box(annotation: dict, image: dict, clip: bool) -> tuple[list[float] | None, str | None]:
    """Corners of the box, and what prevents the conversion or None."""
    if is_crowd(annotation):
        return None, 'a crowd, which the other format cannot represent'
    box = annotation_box(annotation)
    if box is None:
        return None, f'bbox {annotation.get("bbox")} is not four finite numbers x, y, width, height'
    x, y, width, height = map(float, box)
    return check_box((x, y, x + width, y + height), image_size(image), clip)


def to_yolo(images: list[tuple[dict, list]], classes: list[str], out: Path, split: str) -> dict[Path, str]:
    """Return texts by path: ``labels/<split>/<image>.txt`` with a row ``class cx cy w h`` per object, and ``data.yaml``
    and ``classes.txt`` with the names; the images of a split belong into ``images/<split>``.
    """
    names = ''.join(f'  {label}: {json.dumps(name, ensure_ascii=False)}\n' for label, name in enumerate(classes))
    files = {out / 'classes.txt': '\n'.join(classes) + '\n',
             out / 'data.yaml': f'train: images/train\nval: images/val\ntest: images/test\nnames:\n{names}'}
    for image, objects in images:
        width, height = image['width'], image['height']
        rows = [f'{label} {(x1 + x2) / 2 / width:.8f} {(y1 + y2) / 2 / height:.8f} {(x2 - x1) / width:.8f} '
                f'{(y2 - y1) / height:.8f}\n' for label, (x1, y1, x2, y2) in objects]
        files[out / 'labels' / split / PurePosixPath(image['file_name']).with_suffix('.txt')] = ''.join(rows)
    return files


def to_voc(images: list[tuple[dict, list]], classes: list[str], out: Path, split: str) -> dict[Path, str]:
    """Return texts by path: ``Annotations/<image>.xml`` and ``ImageSets/Main/<split>.txt``."""
    files, names = {}, []
    for image, objects in images:
        name = PurePosixPath(image['file_name']).with_suffix('')
        names.append(str(name))
        files[out / 'Annotations' / f'{name}.xml'] = _voc_text(image, objects, classes)
    files[out / 'ImageSets' / 'Main' / f'{split}.txt'] = ''.join(f'{name}\n' for name in names)
    return files


def _voc_text(image: dict, objects: list, classes: list[str]) -> str:
    lines = ['<annotation>', f'  <filename>{escape(image["file_name"])}</filename>',
             f'  <size><width>{image["width"]}</width><height>{image["height"]}</height><depth>3</depth></size>']
    for label, box in objects:
        sides = ''.join(f'<{side}>{value:.10g}</{side}>' for side, value in zip(('xmin', 'ymin', 'xmax', 'ymax'), box))
        lines += ['  <object>', f'    <name>{escape(classes[label])}</name>', '    <difficult>0</difficult>',
                  f'    <bndbox>{sides}</bndbox>', '  </object>']
    return '\n'.join([*lines, '</annotation>', ''])


WRITERS: dict[str, Callable[..., dict[Path, str]]] = {'yolo': to_yolo, 'voc': to_voc}
