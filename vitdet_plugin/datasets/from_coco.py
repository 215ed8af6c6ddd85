"""COCO's boxes to Pascal VOC's XML and YOLO's text files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from xml.sax.saxutils import escape

from vitdet_plugin.datasets.conversion import Problem, check_box


def read_objects(content: dict, path: Path, clip: bool = False) -> tuple[list[tuple[dict, list]], list[str], list]:
    """Pictures with their objects (label, (x1, y1, x2, y2)), class names, and problems.

    Labels are the places of the categories in the file. Crowds have no counterpart in the other formats: each is a
    problem too.
    """
    labels = {category['id']: i for i, category in enumerate(content['categories'])}
    pictures = {image['id']: (image, []) for image in content['images']}
    problems = []
    for image in content['images']:
        name = PurePosixPath(str(image.get('file_name', '')))
        if not name.name or name.is_absolute() or '..' in name.parts:
            problems.append(Problem(path, None, f'image {image["id"]}: file_name {str(name)!r} leaves the folder'))
            pictures.pop(image['id'])
    for each in content['annotations']:
        where = f'annotation {each.get("id")}'
        if each.get('image_id') not in pictures or each.get('category_id') not in labels:
            key = 'image_id' if each.get('image_id') not in pictures else 'category_id'
            problems.append(Problem(path, None, f'{where}: {key} {each.get(key)} is not in the file'))
            continue
        image, objects = pictures[each['image_id']]
        if each.get('iscrowd'):
            problems.append(Problem(path, None, f'{where} is a crowd, which the other format cannot say'))
            continue
        try:
            x, y, width, height = map(float, each['bbox'])
        except (KeyError, TypeError, ValueError):
            problems.append(Problem(path, None, f'{where}: bbox {each.get("bbox")} is no x, y, width, height'))
            continue
        box, wrong = check_box((x, y, x + width, y + height), (image['width'], image['height']), clip)
        if wrong:
            problems.append(Problem(path, None, f'{where}: {wrong}'))
            continue
        objects.append((labels[each['category_id']], box))
    return list(pictures.values()), [category['name'] for category in content['categories']], problems


def to_yolo(pictures: list[tuple[dict, list]], classes: list[str], out: Path, split: str) -> dict[Path, str]:
    """Texts by path: ``labels/<split>/<picture>.txt``, a row ``class cx cy w h`` an object; ``classes.txt``."""
    files = {out / 'classes.txt': '\n'.join(classes) + '\n'}
    for image, objects in pictures:
        width, height = image['width'], image['height']
        rows = [f'{label} {(x1 + x2) / 2 / width:.8f} {(y1 + y2) / 2 / height:.8f} {(x2 - x1) / width:.8f} '
                f'{(y2 - y1) / height:.8f}\n' for label, (x1, y1, x2, y2) in objects]
        files[out / 'labels' / split / PurePosixPath(image['file_name']).with_suffix('.txt')] = ''.join(rows)
    return files


def to_voc(pictures: list[tuple[dict, list]], classes: list[str], out: Path, split: str) -> dict[Path, str]:
    """Texts by path: ``Annotations/<picture>.xml`` and ``ImageSets/Main/<split>.txt``."""
    files, names = {}, []
    for image, objects in pictures:
        name = PurePosixPath(image['file_name']).with_suffix('')
        names.append(str(name))
        files[out / 'Annotations' / f'{name}.xml'] = _voc_file(image, objects, classes)
    files[out / 'ImageSets' / 'Main' / f'{split}.txt'] = ''.join(f'{name}\n' for name in names)
    return files


def _voc_file(image: dict, objects: list, classes: list[str]) -> str:
    lines = ['<annotation>', f'  <filename>{escape(image["file_name"])}</filename>',
             f'  <size><width>{image["width"]}</width><height>{image["height"]}</height><depth>3</depth></size>']
    for label, box in objects:
        sides = ''.join(f'<{side}>{value:.10g}</{side}>' for side, value in zip(('xmin', 'ymin', 'xmax', 'ymax'), box))
        lines += ['  <object>', f'    <name>{escape(classes[label])}</name>', '    <difficult>0</difficult>',
                  f'    <bndbox>{sides}</bndbox>', '  </object>']
    return '\n'.join([*lines, '</annotation>', ''])


WRITERS: dict[str, Callable[..., dict[Path, str]]] = {'yolo': to_yolo, 'voc': to_voc}
