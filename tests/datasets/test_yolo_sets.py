"""``vitdet convert yolo-to-coco`` with the class names, folders and splits of ``data.yaml``."""

import pytest

from tests.datasets.annotation_files import read, write_images

ROW, BOX = '1 0.2 0.5 0.2 0.5\n', ('dog', [10, 20, 20, 40])


def roboflow(root, row=ROW):
    for split in ('train', 'valid'):
        write_images(root / split / 'images', 'a.jpg', 'b.jpg')
        (root / split / 'labels').mkdir()
        (root / split / 'labels/a.txt').write_text(row)
    (root / 'data.yaml').write_text('train: ../train/images\nval: ../valid/images\nnc: 2\nnames: [cat, dog]\n')
    return root


@pytest.mark.parametrize('source', ['', 'data.yaml'])
def test_set_as_downloaded(tmp_path, convert, source):
    code, out, err = convert('yolo-to-coco', roboflow(tmp_path) / source)
    assert code == 0 and not err and f'file names are relative to {tmp_path}' in out
    assert read(tmp_path / 'annotations/train.json') == {'train/images/a.jpg': [BOX], 'train/images/b.jpg': []}
    assert read(tmp_path / 'annotations/val.json') == {'valid/images/a.jpg': [BOX], 'valid/images/b.jpg': []}


def test_polygons_and_one_split(tmp_path, convert):
    root = roboflow(tmp_path, '0 0.1 0.1 0.3 0.1 0.3 0.5\n')
    assert convert('yolo-to-coco', root, '--splits', 'val', '--out', tmp_path / 'out')[0] == 0
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['val.json']
    assert read(tmp_path / 'out/val.json')['valid/images/a.jpg'] == [('cat', [10, 8, 20, 32])]
    assert '"segmentation": [[10.0, 8.0, 30.0, 8.0, 30.0, 40.0]]' in (tmp_path / 'out/val.json').read_text()


def test_problems_prevent_the_conversion(tmp_path, convert):
    root = roboflow(tmp_path, f'{ROW}9 0.5 0.5 0.1 0.1\n')
    code, _, err = convert('yolo-to-coco', root)
    assert code == 1 and f'{root}/train/labels/a.txt:2: class 9; there are 2, counted from 0' in err
    assert convert('yolo-to-coco', root, '--skip-bad')[0] == 0


@pytest.mark.parametrize(('row', 'options', 'message'), [
    (ROW, ['--splits', 'trai'], 'has no images of trai, only of train, val'),
    (ROW, ['--labels', 'x'], 'need --classes'), ('a cat', [], '{root} is not a data set of the format yolo')])
def test_faults(tmp_path, convert, row, options, message):
    code, _, err = convert('yolo-to-coco', roboflow(tmp_path, row), *options)
    assert code == 2 and len(err) == 1 and message.format(root=tmp_path) in err[0]


def test_boxes_beyond_their_image_are_named_or_cut(tmp_path, convert):
    root = roboflow(tmp_path, f'{ROW}1 0.95 0.5 0.3 0.5\n')
    code, _, err = convert('yolo-to-coco', root)
    assert code == 1 and err[0] == (f'{root}/train/labels/a.txt:2: dog: box (80, 20, 110, 60) reaches beyond the image '
                                    'of 100 x 80 (--clip cuts it)')
    assert convert('yolo-to-coco', root, '--skip-bad', '--out', tmp_path / 'left')[0] == 0
    assert convert('yolo-to-coco', root, '--clip', '--out', tmp_path / 'cut')[0] == 0
    assert read(tmp_path / 'left/train.json')['train/images/a.jpg'] == [BOX]
    assert read(tmp_path / 'cut/train.json')['train/images/a.jpg'] == [BOX, ('dog', [80, 20, 20, 40])]


def test_set_without_names(tmp_path, convert):
    root = roboflow(tmp_path)
    (root / 'data.yaml').unlink()
    assert 'has no list of class names (data.yaml, classes.txt); give --classes' in convert('yolo-to-coco', root)[2][0]
