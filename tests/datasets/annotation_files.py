"""Small sets of images with annotations in the formats of VOC, YOLO and COCO."""

import json

from PIL import Image


def write_images(folder, *names, size=(100, 80)):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', size).save(folder / name)


def xml(*objects, name='a.jpg', size=(100, 80)):
    lines = ['<annotation>', f'<filename>{name}</filename>',
             f'<size><width>{size[0]}</width><height>{size[1]}</height></size>']
    for label, *box in objects:
        sides = ''.join(f'<{side}>{value}</{side}>' for side, value in zip(('xmin', 'ymin', 'xmax', 'ymax'), box))
        lines += ['<object>', f'<name>{label}</name>', '<bndbox>', sides, '</bndbox>', '</object>']
    return '\n'.join([*lines, '</annotation>'])


def voc(folder, **files):
    """A VOC set: an image and an XML text for each name."""
    (folder / 'Annotations').mkdir(parents=True)
    for name, text in files.items():
        write_images(folder / 'JPEGImages', f'{name}.jpg')
        (folder / f'Annotations/{name}.xml').write_text(text)
    return folder


def read(path):
    content = json.loads(path.read_text())
    names = {c['id']: c['name'] for c in content['categories']}
    return {image['file_name']: [(names[a['category_id']], a['bbox']) for a in content['annotations']
                                 if a['image_id'] == image['id']] for image in content['images']}


def yolo(folder, rows, split=''):
    for name, text in rows.items():
        write_images(folder / 'images' / split, f'{name}.png')
        if text is not None:
            path = folder / 'labels' / split / f'{name}.txt'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    (folder / 'data.yaml').write_text('names:\n  0: cat\n  1: dog\n')
    return folder
