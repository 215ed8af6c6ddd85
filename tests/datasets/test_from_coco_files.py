"""COCO to VOC and YOLO: sizes from the images, equal names, rotated images."""

import json

import pytest

from tests.datasets.annotation_files import write_images
from tests.datasets.image_writer import write_rotated


def coco(folder, *images, size=(100, 80)):
    """A COCO file with one box of (10, 20, 20, 40) in each image."""
    entries = [dict(id=i, file_name=name, **({} if size is None else dict(width=size[0], height=size[1])))
               for i, name in enumerate(images)]
    content = dict(images=entries, categories=[dict(id=1, name='x')], annotations=[
        dict(id=i, image_id=i, category_id=1, bbox=[1, 2, 4, 4], iscrowd=0) for i in range(len(images))])
    (folder / 'in.json').write_text(json.dumps(content))
    return folder / 'in.json'


@pytest.mark.parametrize('kind', ['voc', 'yolo'])
def test_missing_sizes_are_read_from_the_images(tmp_path, convert, kind):
    write_rotated(tmp_path / 'images/x/a.jpg')
    code, out, err = convert(f'coco-to-{kind}', coco(tmp_path, 'x\\a.jpg', size=None), '--out', tmp_path / 'out')
    assert code == 0 and not err and '1 sizes that the file does not state are read from the images' in out
    assert '1 file names have backslashes, which are converted to /' in out
    name, text = {'voc': ('Annotations/x/a.xml', '<width>8</width><height>12</height>'),
                  'yolo': ('labels/train/x/a.txt', '0 0.37500000 0.33333333 0.50000000 0.33333333\n')}[kind]
    assert text in (tmp_path / 'out' / name).read_text()


def test_a_missing_size_without_the_image_is_one_line(tmp_path, convert):
    file = coco(tmp_path, 'a.jpg', 'b.jpg', size=None)
    code, _, err = convert('coco-to-yolo', file, '--out', tmp_path / 'out')
    assert code == 1 and len(err) == 4 and not (tmp_path / 'out').exists()
    assert err[0].endswith('image 0: no width and height in pixels; give the folder of the images (--images DIR)')
    assert err[2].endswith('2 annotations: their images cannot be converted')
    write_images(tmp_path / 'elsewhere', 'a.jpg')
    code, _, err = convert('coco-to-yolo', file, '--out', tmp_path / 'out', '--images', tmp_path / 'elsewhere')
    assert code == 1 and f'image 1: no width and height in pixels and b.jpg is not in {tmp_path}/elsewhere' in err[0]


def test_sizes_before_the_orientation_are_refused(tmp_path, convert):
    write_rotated(tmp_path / 'a.jpg')
    assert convert('coco-to-yolo', coco(tmp_path, 'a.jpg', size=(8, 12)), '--out', tmp_path / 'good')[0] == 0
    code, _, err = convert('coco-to-yolo', coco(tmp_path, 'a.jpg', size=(12, 8)), '--out', tmp_path / 'bad')
    assert code == 1 and 'a.jpg is 8 x 12, annotated 12 x 8; the file has an EXIF orientation' in err[0]


@pytest.mark.parametrize('kind', ['voc', 'yolo'])
def test_equal_names(tmp_path, convert, kind):
    code, _, err = convert(f'coco-to-{kind}', coco(tmp_path, 'a.jpg', 'a.png'), '--out', tmp_path / 'out')
    assert code == 1 and not (tmp_path / 'out').exists()
    assert "file_name 'a.png' would be written to the same file as 'a.jpg'" in err[0]
    file = coco(tmp_path, 'x/im.png', 'y/im.png', 'b.png', 'B.jpg')
    code, out, _ = convert(f'coco-to-{kind}', file, '--out', tmp_path / 'out')
    assert code == 0 and len(list((tmp_path / 'out').rglob('im.*'))) == 2
    assert any("'B.jpg' and 'b.png' differ in upper and lower case only" in line for line in out)
    assert any(line.startswith('4 sizes are taken from the file') for line in out)


@pytest.mark.parametrize('kind', ['voc', 'yolo'])
def test_masks_that_are_not_written_are_counted(tmp_path, convert, kind):
    file = coco(tmp_path, 'a.jpg', 'b.jpg')
    content = json.loads(file.read_text())
    content['annotations'][1]['segmentation'] = [[1, 2, 5, 2, 5, 6]]
    file.write_text(json.dumps(content))
    code, out, _ = convert(f'coco-to-{kind}', file, '--out', tmp_path / 'out')
    assert code == 0 and '1 masks are not written: the files have boxes only' in out


def test_splits_are_written_to_one_folder(tmp_path, convert):
    file = coco(tmp_path, 'a.jpg')
    for split in ('train', 'val'):
        assert convert('coco-to-yolo', file, '--out', tmp_path / 'out', '--split', split)[0] == 0
    assert (tmp_path / 'out/data.yaml').read_text() == (
        'train: images/train\nval: images/val\ntest: images/test\nnames:\n  0: "x"\n')
    for split in ('train', 'val'):
        write_images(tmp_path / 'out/images' / split, 'a.jpg')
    assert convert('to-coco', tmp_path / 'out')[0] == 0
    assert sorted(path.name for path in (tmp_path / 'out/annotations').iterdir()) == ['train.json', 'val.json']
    other = json.loads(file.read_text())
    other['categories'][0]['name'] = 'y'
    file.write_text(json.dumps(other))
    code, _, err = convert('coco-to-yolo', file, '--out', tmp_path / 'out', '--split', 'test')
    assert code == 2 and 'exists' in err[0]
