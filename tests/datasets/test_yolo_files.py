"""Text files of YOLO as other programs write them, and rotated images. Nothing is left out silently."""

import pytest

from tests.datasets.annotation_files import read, write_images, yolo
from tests.datasets.image_writer import write_rotated

ROW, BOX = '0 0.5 0.5 0.2 0.5', ('cat', [40, 20, 20, 40])


@pytest.mark.parametrize('suffix', ['jpg', 'png', 'tif'])
def test_rows_are_relative_to_the_displayed_image(tmp_path, convert, suffix):
    write_rotated(tmp_path / f'images/a.{suffix}')
    (tmp_path / 'labels').mkdir()
    (tmp_path / 'labels/a.txt').write_text('0 0.5 0.75 0.5 0.5\n')
    assert convert('yolo-to-coco', tmp_path, '--classes', 'cat')[0] == 0
    assert read(tmp_path / 'annotations/all.json') == {f'a.{suffix}': [('cat', [2, 6, 4, 6])]}
    assert '"width": 8, "height": 12' in (tmp_path / 'annotations/all.json').read_text()


@pytest.mark.parametrize('codec', ['utf-8-sig', 'utf-16'])
@pytest.mark.parametrize(('name', 'text'), [
    ('classes.txt', 'cat\r\ndog\r\n\r\n'), ('data.yaml', 'nc: 2\nnames: [cat, dog]'),
    ('data.yaml', 'names:\n  0: cat\n  1: dog\n')])
def test_byte_order_marks(tmp_path, convert, codec, name, text):
    root = yolo(tmp_path, {'a': None})
    (root / 'labels').mkdir()
    (root / 'labels/a.TXT').write_bytes(f'\r\n{ROW} \r\n'.encode(codec))
    (root / name).write_bytes(text.encode(codec))
    code, out, err = convert('yolo-to-coco', root, '--classes', root / name)
    assert code == 0 and not err and 'of 2 classes (cat, dog)' in out[0]
    assert read(root / 'annotations/all.json') == {'a.png': [BOX]}


@pytest.mark.parametrize(('text', 'message'), [
    ('nc: 3\nnames: [cat, dog]', 'nc is 3, but names has 2: cat, dog'), ('names: 5', 'has no list of names'),
    ('names: {0: cat, 2: dog}', 'the keys of names in'), ('names: [[cat]]', 'has no list of names'),
    (b'names: [caf\xe9]', 'not UTF-8 text'), ('names: [cat', 'is not the yaml of a data set')])
def test_faults_of_the_class_file(tmp_path, convert, text, message):
    (tmp_path / 'data.yaml').write_bytes(text if isinstance(text, bytes) else text.encode())
    code, _, err = convert('yolo-to-coco', tmp_path, '--classes', tmp_path / 'data.yaml')
    assert code == 2 and len(err) == 1 and message in err[0]


def test_names_that_yaml_would_convert_stay_texts(tmp_path, convert):
    root = yolo(tmp_path, {'a': '3 0.5 0.5 0.2 0.5'})
    (root / 'data.yaml').write_text('names: [yes, null, 1.0, 012]')
    assert convert('yolo-to-coco', root, '--classes', root / 'data.yaml')[0] == 0
    assert read(root / 'annotations/all.json') == {'a.png': [('012', BOX[1])]}


@pytest.mark.parametrize(('row', 'reason'), [
    ('0 0,5 0,5 0,2 0,5', 'write decimals with a point'), (f'{ROW} 0.87', 'remove the sixth, a confidence'),
    (ROW.replace('0 ', '7 ', 1), 'class 7; there are 1')])
def test_bad_rows_say_what_to_do(tmp_path, convert, row, reason):
    root = yolo(tmp_path, {'a': f'{ROW}\n{row}'})
    code, _, err = convert('yolo-to-coco', root, '--classes', 'cat')
    assert code == 1 and err[0].startswith(f'{root}/labels/a.txt:2: ') and reason in err[0]


def test_files_that_are_not_used_are_counted_or_named(tmp_path, convert):
    root = yolo(tmp_path, {'a': ROW, 'b': None, 'c': ''})
    write_images(root / 'images', '._a.png')
    (root / 'images/Thumbs.db').touch()
    (root / 'images/clip.mp4').touch()
    (root / 'labels/._a.txt').touch()
    (root / 'labels/classes.txt').write_text('cat\n')
    code, out, err = convert('yolo-to-coco', root, '--classes', 'cat')
    assert code == 0 and not err and '2 images have no objects, 1 of them no label file' in out
    assert f'1 hidden image files in {root}/images are ignored' in out
    assert f'1 files in {root}/images are not images by their suffix: clip.mp4' in out
    (root / 'labels/b.txt.txt').write_text(ROW)
    (root / 'labels/latin.txt').write_bytes(b'\xe9')
    (root / 'images/latin.png').write_bytes((root / 'images/a.png').read_bytes())
    code, _, err = convert('yolo-to-coco', root, '--classes', 'cat')
    assert code == 1 and 'latin.txt:1: not only numbers' in err[0]
    assert 'b.txt.txt: no image of this name' in err[1] and err[1].endswith('rename it to b.txt')


def test_labels_of_another_folder_are_an_error(tmp_path, convert):
    root = yolo(tmp_path, {'a': ROW}, 'train')
    code, _, err = convert('yolo-to-coco', root, '--classes', 'cat', '--labels', 'images')
    assert code == 2 and 'none of the 1 images in' in err[0] and '--labels' in err[0]


def test_two_images_of_one_label_file(tmp_path, convert):
    root = yolo(tmp_path, {'a': ROW})
    write_images(root / 'images', 'a.jpg')
    code, _, err = convert('yolo-to-coco', root, '--classes', 'cat')
    assert code == 1 and 'labels/a.txt: belongs to a.jpg and to a.png; rename one of the images' in err[0]
