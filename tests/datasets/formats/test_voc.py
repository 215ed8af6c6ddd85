"""XML files of Pascal VOC, LabelImg and Roboflow, in any folders and encodings."""

import pytest

from tests.datasets.formats.reading import (
    CAT,
    DOG,
    assert_objects,
    polygon,
    read,
    recognized,
    splits,
    write,
    write_image,
)


def entry(name, box, more='') -> str:
    sides = ''.join(f'<{side}>{value}</{side}>' for side, value in zip(('xmin', 'ymin', 'xmax', 'ymax'), box))
    return f'<object>\n<name>{name}</name>\n<bndbox>{sides}</bndbox>{more}\n</object>\n'


def xml(*entries, name='a.jpg', size='<size><width>100</width><height>80</height></size>', head='') -> str:
    return f'{head}<annotation verified="yes">\n<filename>{name}</filename>\n{size}\n{"".join(entries)}</annotation>'


@pytest.mark.parametrize(('image', 'file', 'name'), [
    ('JPEGImages/a.jpg', 'Annotations/a.xml', 'a.jpg'), ('a.jpg', 'a.xml', 'a.jpg'),
    ('train/a.jpg', 'train/a.xml', 'a'), ('data/images/sub/a.JPG', 'data/labels/sub/a.XML', 'C:\\photos\\a.JPG'),
    ('x/photo.jpg', 'y/a.xml', 'photo.jpg'), ('images/a.jpg', 'xml/a.xml', ''),
    ('images/a.b.jpg', 'xml/a.b.xml', 'other.jpg'),
    ('images/a.jpg', 'xml/a.jpg.xml', '')])
def test_objects_come_back(tmp_path, image, file, name):
    write_image(tmp_path / image)
    write(tmp_path / file, xml(entry(*CAT), entry(*DOG), name=name))
    found = read(tmp_path, 'voc')
    assert_objects(found, tmp_path, {image: [CAT, DOG]})
    assert found.classes == ['cat', 'dog'] and not found.problems
    assert found.images[0].split == ('train' if 'train' in image else None)


@pytest.mark.parametrize(('declared', 'codec'), [
    ('gbk', 'gbk'), (None, 'gbk'), ('utf-8', 'gbk'), (None, 'utf-8-sig'), (None, 'utf-16'), ('utf-16', 'utf-16')])
def test_encodings(tmp_path, declared, codec):
    write_image(tmp_path / '猫狗.jpg')
    head = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ''
    write(tmp_path / '猫狗.xml', xml(entry('猫狗', CAT[1]), name='猫狗.jpg', head=head), codec)
    assert_objects(read(tmp_path, 'voc'), tmp_path, {'猫狗.jpg': [('猫狗', CAT[1])]})


@pytest.mark.parametrize(('name', 'declared', 'codec', 'note'), [
    ('pêche', None, 'latin-1', 'Latin-1'), ('pêche', 'iso-8859-1', 'latin-1', 'ISO-8859-1'),
    ('pêche', 'iso-8859-1', 'utf-8', None), ('奥迪', 'GBK', 'utf-8', None), ('奥迪', 'GBK', 'gbk', 'GBK'),
    ('猫', 'GBK', 'gbk', 'GBK'),  # whose bytes are those of è in UTF-8
    ('奥迪', 'utf-8', 'gbk', 'GBK'), ('cat', 'GBK', 'gbk', None)])
def test_encoding_is_noted_and_valid_utf_8_wins(tmp_path, name, declared, codec, note):
    write_image(tmp_path / 'a.jpg')
    head = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ''
    write(tmp_path / 'a.xml', xml(entry(name, CAT[1]), head=head), codec)
    found = read(tmp_path, 'voc')
    assert found.classes == [name]
    assert [each for each in found.notes if 'read as' in each] == ([f'1 files are read as {note}: a.xml'] if note else
                                                                   [])


def test_files_of_the_challenge_count_from_one(tmp_path):
    """Splits are those of the lists, and images of segmentations are no images of the set."""
    box = (11, 21, 40, 60)
    source = '<source><database>The VOC2007 Database</database></source><segmented>1</segmented>'
    for name, text in (('000001', entry('cat', box)), ('000002', ''), ('000003', entry('dog', box, '<part/>')),
                       ('000004', entry('dog', box, '<difficult>1</difficult>'))):
        write_image(tmp_path / f'VOC2007/JPEGImages/{name}.jpg')
        write(tmp_path / f'VOC2007/Annotations/{name}.xml', xml(text, source, name=f'{name}.jpg'))
    write_image(tmp_path / 'VOC2007/SegmentationObject/000001.png')
    for name, text in (('train', '000001\n'), ('val', '000002\n'), ('trainval', '000001\n000002'),
                       ('test', '000003\n999999\n'), ('cat_train', '000004 1')):
        write(tmp_path / f'VOC2007/ImageSets/Main/{name}.txt', text)
    write(tmp_path / 'VOC2007/ImageSets/Layout/train.txt', '000004\n')
    found = read(tmp_path, 'voc')
    folder = 'VOC2007/JPEGImages'
    dog = ('dog', CAT[1])
    assert_objects(found, tmp_path, {f'{folder}/00000{i}.jpg': rows
                                     for i, rows in enumerate(([CAT], [], [dog], [dog]), 1)})
    assert list(splits(found, tmp_path).values()) == ['train', 'val', 'test', None] and not found.problems
    for part in ('4 files are of the VOC challenges', '1 objects are marked difficult', '1 objects have parts',
                 '4 files say that a segmentation exists', '1 images in folders of segmentations are not read',
                 'test.txt names 1 images without an XML file: 999999', '1 annotated images are in no list'):
        assert any(part in note for note in found.notes), part


def test_trainval_and_names_in_nested_folders(tmp_path):
    for name in ('a', 'b'):
        write_image(tmp_path / f'images/{name}/1.jpg')
        write(tmp_path / f'Annotations/{name}/1.xml', xml(entry(*CAT), name='1.jpg'))
    write(tmp_path / 'ImageSets/Main/trainval.txt', 'a/1\n')
    write(tmp_path / 'ImageSets/Main/test.txt', 'b/1.jpg\n')
    assert splits(read(tmp_path, 'voc'), tmp_path) == {'images/a/1.jpg': 'train', 'images/b/1.jpg': 'test'}


def test_polygons_are_masks(tmp_path):
    points = polygon(CAT[1])
    roboflow = '<polygon>' + ''.join(f'<{"xy"[i % 2]}{i // 2 + 1}>{v}</{"xy"[i % 2]}{i // 2 + 1}>'
                                     for i, v in enumerate(points)) + '</polygon>'
    labelme = '<polygon><username>a</username>' + ''.join(f'<pt><x>{x}</x><y>{y}</y></pt>' for x, y in zip(
        points[0::2], points[1::2])) + '</polygon>'
    write_image(tmp_path / 'a.jpg')
    write(tmp_path / 'a.xml', xml(entry(*CAT, roboflow), f'<object><name>cat</name>{labelme}</object>',
                                  entry(*DOG, '<polygon><x1>1</x1><y1>2</y1></polygon>'),
                                  f'<object><name>dog</name><deleted>1</deleted>{labelme}</object>'))
    found = read(tmp_path, 'voc')
    assert_objects(found, tmp_path, {'a.jpg': [CAT, CAT, DOG]})
    assert [each.mask for each in found.images[0].objects] == [[points], [points], None] and not found.problems
    for part in ('1 polygons enclose nothing', '1 objects are marked deleted'):
        assert any(part in note for note in found.notes)


def test_each_fault_is_a_problem(tmp_path):
    for name in ('a', 'b', 'c', 'wide', 'f'):
        write_image(tmp_path / f'{name}.jpg', (200, 80) if name == 'wide' else (100, 80))
    write_image(tmp_path / 'rotated.jpg', orientation=8)
    write(tmp_path / 'a.xml', xml(entry(*CAT), entry('', CAT[1]), entry('cat', (40, 20, 10, 60)),
                                  entry('cat', [1, 2, '']), '<object><name>dog</name></object>',
                                  entry('cat', (150, 0, 160, 10)),
                                  size='<size><width>100.0</width><height>80.0</height></size>'))
    write(tmp_path / 'b.xml', '<annotation>\n<object>')
    write(tmp_path / 'c.xml', '<html/>')
    write(tmp_path / 'gone.xml', xml(entry(*CAT), name='gone.jpg'))
    for name in ('wide', 'rotated'):
        write(tmp_path / f'{name}.xml', xml(entry(*CAT), name=''))
    write(tmp_path / 'f.xml', xml(entry('dog', (60, 10, 130, 90)), size='<size><width>0</width></size>'))
    found = read(tmp_path, 'voc')
    assert_objects(found, tmp_path, {'a.jpg': [CAT], 'f.jpg': [('dog', (60, 10, 100, 80))]})
    texts = [str(each) for each in found.problems]
    for part in ('a.xml:10: an object without a class name', 'a.xml:14: cat: xmin 40 is above xmax 10',
                 "a.xml:18: cat: a box needs four numbers, found xmin '1'", 'a.xml:20: dog: no bndbox',
                 'a.xml:22: cat: box (150, 0, 160, 10) has no area within', 'b.xml:2: not valid XML',
                 'c.xml:1: the root is <html>', 'gone.xml:2: neither gone.jpg nor gone.* is one image',
                 '; its 1 objects are left out', 'wide.jpg is 200 x 80, annotated 100 x 80',
                 'rotated.jpg is 80 x 100, annotated 100 x 80; the file has an EXIF orientation'):
        assert any(part in text for text in texts), (part, texts)
    assert len(texts) == 10 and found.clipped == 1


def test_folder_of_annotations_only(tmp_path):
    write_image(tmp_path / 'images/a.jpg')
    write(tmp_path / 'xml/a.xml', xml(entry(*CAT)))
    write(tmp_path / 'other/a.xml', xml(entry(*DOG)))
    assert_objects(read(tmp_path / 'xml', 'voc'), tmp_path, {'images/a.jpg': [CAT]})


@pytest.mark.parametrize('text', ['<annotations><x name="a.jpg"/></annotations>', '<project><a/></project>', '',
                                  '<annotation/>', 'annotation object'])
def test_other_xml_files_are_not_recognized(tmp_path, text):
    write_image(tmp_path / 'a.jpg')
    write(tmp_path / 'a.xml', text)
    assert recognized(tmp_path) == []
