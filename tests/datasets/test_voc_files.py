"""XML files as other programs write them: encodings, names, sizes, subfolders. Nothing is left out silently."""

import pytest

from tests.datasets.annotation_files import read, voc, write_images, xml
from tests.datasets.image_writer import write_rotated
from vitdet_plugin.datasets.voc_xml import read_xml

ONE = xml(('cat', 10, 20, 30, 60))
BOX = ('cat', [10, 20, 20, 40])


@pytest.mark.parametrize(('declared', 'codec'), [
    ('gbk', 'gbk'), ('GB2312', 'gb2312'), ('shift_jis', 'shift_jis'), ('utf-16', 'utf-16'), ('utf-8', 'utf-8-sig'),
    ('UTF-8', 'utf-8'), (None, 'utf-8'), (None, 'utf-16'), ('utf-16', 'utf-8')])
def test_encodings(tmp_path, convert, declared, codec):
    head = f'<?xml version="1.0" encoding="{declared}"?>\n' if declared else ''
    root = voc(tmp_path, a='')
    (root / 'Annotations/a.xml').write_bytes((head + ONE.replace('cat', '中')).encode(codec))
    code, _, err = convert('voc-to-coco', root)
    assert code == 0 and not err and read(root / 'annotations/all.json') == {'a.jpg': [('中', BOX[1])]}


@pytest.mark.parametrize(('content', 'line', 'reason'), [
    (b'<?xml version="1.0" encoding="klingon"?><annotation/>', 1, "the declared encoding 'klingon' is unknown"),
    (b'<annotation>\n<a>\xe9</a></annotation>', 2, 'not valid utf-8 text at byte 16'),
    (b'', None, 'the file is empty'), (b'<html/>', 1, 'the root is <html>, expected <annotation>'),
    (b'<?xml version="1.0" encoding="gbk"?>\n<!DOCTYPE x [<!ENTITY a "b">]>\n<annotation>&a;</annotation>', None,
     'refused')])
def test_files_that_cannot_be_read_are_named(tmp_path, convert, content, line, reason):
    root = voc(tmp_path, a='')
    (root / 'Annotations/a.xml').write_bytes(content)
    code, _, err = convert('voc-to-coco', root)
    assert code == 1 and err[0].startswith(f'{root}/Annotations/a.xml{f":{line}" if line else ""}: ')
    assert reason in err[0]


def test_lines_are_those_of_the_file_with_a_declaration(tmp_path):
    (tmp_path / 'a.xml').write_bytes(b'<?xml version="1.0"\n encoding="gbk"?>\n<annotation>\n<x/></annotation>')
    root = read_xml(tmp_path / 'a.xml')
    assert (root.line, root.children[0].line) == (3, 4)


def test_upper_case_and_subfolders_are_read_and_the_rest_is_counted(tmp_path, convert):
    root = voc(tmp_path, a=ONE)
    write_images(root / 'JPEGImages', 'G.JPG', 'sub/s.png', 'flat.png', 'lonely.png', '._a.jpg')
    (root / 'JPEGImages/photo.heic').touch()
    (root / 'Annotations/sub').mkdir()
    for name in ('G.XML', 'sub/s.xml', 'sub/flat.xml', '._a.xml'):
        (root / 'Annotations' / name).write_text(xml(('cat', 10, 20, 30, 60), name=''))
    code, out, err = convert('voc-to-coco', root)
    assert code == 0 and not err
    assert read(root / 'annotations/all.json') == {name: [BOX] for name in ('a.jpg', 'G.JPG', 'sub/s.png', 'flat.png')}
    assert '1 images have no XML file and are left out: lonely.png' in out
    assert f'1 hidden image files in {root}/JPEGImages are ignored' in out
    assert f'1 files in {root}/JPEGImages are not images by their suffix: photo.heic' in out


@pytest.mark.parametrize('size', ['<size><width>100.0</width><height>80.0</height></size>', '<size/>', '',
                                  '<size><width>0</width><height>0</height></size>'])
def test_sizes_as_decimals_zero_or_missing(tmp_path, convert, size):
    root = voc(tmp_path, a=ONE.replace('<size><width>100</width><height>80</height></size>', size))
    assert convert('voc-to-coco', root)[0] == 0 and read(root / 'annotations/all.json') == {'a.jpg': [BOX]}


@pytest.mark.parametrize('suffix', ['jpg', 'png', 'tif'])
def test_the_displayed_frame_is_accepted_and_the_stored_one_refused(tmp_path, convert, suffix):
    for name, size in (('shown', (8, 12)), ('stored', (12, 8))):
        root = voc(tmp_path / name)
        (root / 'Annotations/a.xml').write_text(xml(('cat', 1, 2, 8, 8), size=size))
        write_rotated(root / f'JPEGImages/a.{suffix}')
        code, _, err = convert('voc-to-coco', root)
        assert code == (name == 'stored')
        assert not err if code == 0 else f'a.{suffix} is 8 x 12, annotated 12 x 8; the file has an EXIF' in err[0]
    assert read(tmp_path / 'shown/annotations/all.json') == {f'a.{suffix}': [('cat', [1, 2, 7, 6])]}


@pytest.mark.parametrize(('named', 'image'), [('b', 'b.png'), ('C:\\photos\\b.png', 'b.png'), ('other.png', 'a.jpg')])
def test_the_image_of_a_file(tmp_path, convert, named, image):
    """The name without suffix decides; ``filename`` does where there is no such image."""
    root = voc(tmp_path)
    (root / 'Annotations/a.xml').write_text(xml(('cat', 10, 20, 30, 60), name=named))
    write_images(root / 'JPEGImages', image, 'other.png')
    code, out, _ = convert('voc-to-coco', root)
    assert code == 0 and read(root / 'annotations/all.json') == {image: [BOX]}
    assert any('name another image than that of their own name' in line for line in out) == (named == 'other.png')


def test_two_images_of_one_name_and_two_files_of_one_image(tmp_path, convert):
    root = voc(tmp_path)
    write_images(root / 'JPEGImages', 'a.jpg', 'a.png', 'b.png')
    for name, image in (('a', 'a.bmp'), ('b', 'b.png'), ('c', 'b.png')):
        (root / f'Annotations/{name}.xml').write_text(xml(('cat', 10, 20, 30, 60), name=image))
    code, _, err = convert('voc-to-coco', root)
    assert code == 1 and 'a.jpg and a.png have the name of this file; name one of them in <filename>' in err[0]
    assert 'c.xml:2: b.png has objects in b.xml too' in err[1]
    (root / 'Annotations/a.xml').write_text(xml(('cat', 10, 20, 30, 60), name='a.png'))
    (root / 'Annotations/c.xml').unlink()
    assert convert('voc-to-coco', root)[0] == 0 and 'a.png' in read(root / 'annotations/all.json')


def test_objects_of_other_programs(tmp_path, convert):
    part = '<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></part>'
    text = ONE.replace('<object>', '<object><polygon><x1>1</x1></polygon>' + part).replace('<ymin>20', '<ymin> 20.0 ')
    text = text.replace('<annotation>', '<v:annotation xmlns:v="http://x">').replace('</ann', '</v:ann')
    root = voc(tmp_path / 'good', a=text.replace('bndbox', 'bndBox'))
    code, out, _ = convert('voc-to-coco', root)
    assert code == 0 and read(root / 'annotations/all.json') == {'a.jpg': [BOX]}
    assert '1 polygons enclose nothing; only the boxes of these objects are read' in out
    bad = {'cat: xmin 30 is above xmax 10; exchange them': xml(('cat', 30, 20, 10, 60)),
           'cat: no bndbox; a box needs four numbers (found polygon)':
               '<annotation><object><name>cat</name><polygon/></object></annotation>'}
    for number, (reason, text) in enumerate(bad.items()):
        code, _, err = convert('voc-to-coco', voc(tmp_path / str(number), a=text), '--classes', 'cat')
        assert code == 1 and reason in err[0]


def test_lists_of_images(tmp_path, convert):
    root = voc(tmp_path, a=ONE, b=xml(name='b.jpg'), c=xml(name='c.jpg'))
    (root / 'ImageSets/Main').mkdir(parents=True)
    (root / 'ImageSets/Main/train.txt').write_bytes(b'\xef\xbb\xbfa\r\nb.jpg\r\n')
    code, out, _ = convert('voc-to-coco', root, '--splits', 'train')
    assert code == 0 and list(read(root / 'annotations/train.json')) == ['a.jpg', 'b.jpg']
    assert '1 annotated images are in none of the lists and left out' in out
