"""XML files of CVAT written by hand."""

import itertools

import numpy as np
import pytest

from tests.datasets.formats.known_pixels import (
    DONUT,
    near,
    objects_of,
    pixels_of,
    read,
    texts,
    write_image,
    write_turned,
)

LABELS = '<labels>' + ''.join(
    f'<label><name>{name}</name><type>{kind}</type><attributes/></label>'
    for name, kind in (('dog', 'any'), ('cat', 'any'), ('eye', 'points'))) + '</labels>'
BOX = '<box label="cat" source="manual" occluded="0" xtl="10.5" ytl="20" xbr="110" ybr="80.25" z_order="0"></box>'


def image(*shapes, name='a.jpg', size=(200, 160), more=''):
    return (f'<image id="0" name="{name}" width="{size[0]}" height="{size[1]}"{more}>\n' + '\n'.join(shapes)
            + '\n</image>')


def cvat(folder, *content, meta=f'<task><size>2</size>{LABELS}</task>', encoding='utf-8', name='annotations.xml'):
    text = (f'<?xml version="1.0" encoding="{encoding}"?>\n<annotations>\n<version>1.1</version>\n<meta>{meta}</meta>\n'
            + '\n'.join(content) + '\n</annotations>')
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text.encode(encoding))
    return folder


def runs_of(mask):
    """Run lengths row by row, of background first."""
    found = [(int(value), len(list(group))) for value, group in itertools.groupby(mask.ravel())]
    counts = [count for _, count in found]
    return ', '.join(map(str, [0, *counts] if found[0][0] else counts))


def test_shapes(tmp_path):
    write_image(tmp_path / 'images/a.jpg')
    part = DONUT[20:100, 30:120]
    found = read(cvat(tmp_path, image(
        BOX, '<polygon label="dog" points="20.5,30;120,40.25;60,130" z_order="1"></polygon>',
        f'<mask label="dog" rle="{runs_of(part)}" left="30" top="20" width="90" height="80" z_order="0"></mask>',
        '<ellipse label="cat" cx="100" cy="80" rx="40" ry="20" rotation="90.00"></ellipse>',
        '<box label="cat" xtl="60" ytl="60" xbr="140" ybr="100" rotation="90.00" group_id="1"></box>',
        '<box label="cat" xtl="80" ytl="60" xbr="120" ybr="100" rotation="45"><attribute name="x">1</attribute></box>'
    )), 'cvat')
    assert found.classes == ['dog', 'cat'] and not found.problems
    box, polygon, mask, ellipse, upright, diamond = objects_of(found)
    assert box.name == 'cat' and box.box == (10.5, 20, 110, 80.25) and box.mask is None
    assert polygon.name == 'dog' and polygon.mask == [[20.5, 30, 120, 40.25, 60, 130]]
    assert (pixels_of(mask.mask) == DONUT).all()
    assert near(ellipse.box, (80, 40, 120, 120), 0.1) and near(upright.box, (80, 40, 120, 120), 1e-6)
    half = 20 * 2 ** 0.5
    assert near(diamond.box, (100 - half, 80 - half, 100 + half, 80 + half), 1e-6)
    assert not any('group_id' in note for note in found.notes)  # a box alone in its group


def test_polygons_of_a_group_are_one_object(tmp_path):
    write_image(tmp_path / 'images/a.jpg')
    part = '<polygon label="{}" points="{}" group_id="{}"></polygon>'
    left, right = '10,10;30,10;30,30;10,30', '60,10;90,10;90,40;60,40'
    found = read(cvat(tmp_path, image(part.format('cat', left, 3), part.format('cat', right, 3),
                                      part.format('dog', left, 3), part.format('cat', left, 0),
                                      part.format('cat', right, 0))), 'cvat')
    assert [(each.name, each.box) for each in objects_of(found)] == [
        ('cat', (10, 10, 90, 40)), ('dog', (10, 10, 30, 30)), ('cat', (10, 10, 30, 30)), ('cat', (60, 10, 90, 40))]
    assert len(objects_of(found)[0].mask) == 2 and not found.problems
    assert any('2 polygons and masks share a group_id and a label' in note for note in found.notes)


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-16', 'gbk'])
def test_encodings_and_background(tmp_path, encoding):
    for name in 'ab':
        write_image(tmp_path / f'{name}.jpg')
    found = read(cvat(tmp_path, image(BOX.replace('cat', '猫')), image(name='b.jpg'), meta='', encoding=encoding),
                 'cvat')
    assert found.classes == ['猫'] and objects_of(found, 'b.jpg') == []


def test_problems_have_lines(tmp_path):
    write_image(tmp_path / 'a.jpg')
    folder = cvat(tmp_path, image(
        '<points label="eye" points="1,2"></points>', '<polyline label="cat" points="1,2;3,4;5,9"></polyline>',
        '<cuboid label="cat" xtl1="1"></cuboid>', '<skeleton label="cat"></skeleton>',
        '<polygon label="cat" points="1,2;3,4"></polygon>', '<box label="cat" xtl="1" ytl="2" xbr="3"></box>',
        '<mask label="cat" rle="3, 4" left="0" top="0" width="5" height="5"></mask>', BOX.replace('"cat"', '""'),
        '<polygon label="cat" points="1;2;3"></polygon>', BOX), image(BOX, BOX, name='missing.jpg'))
    found = read(folder, 'cvat')
    assert len(objects_of(found)) == 1 and found.classes == ['dog', 'cat']
    problems = sorted(texts(found), key=lambda text: int(text.split(':')[1]))
    for number, (text, words) in enumerate(zip(problems, (
            'a points is not', 'a polyline is not', 'a cuboid', 'a skeleton', '2 points', 'without ybr',
            'sum up to 7 in place of 25', 'without a class name', 'points as', 'its 2 objects'), strict=True), 6):
        assert text.startswith(f'annotations.xml:{number if number < 15 else 17}: ') and words in text


def test_names_with_folders_subsets_and_sizes(tmp_path):
    for name in ('images/x/a.jpg', 'images/y/a.jpg', 'images/y/c.jpg'):
        write_image(tmp_path / name)
    write_turned(tmp_path / 'images/d.jpg')
    found = read(cvat(tmp_path, image(BOX, name='x/a.jpg', more=' subset="Train"'),
                      image(name='y/a.jpg', more=' subset="Validation"'),
                      image(BOX, name='y/c.jpg', size=(100, 80), more=' subset="default"'),
                      image(BOX, name='d.jpg', size=(160, 200))), 'cvat')
    assert [(each.path.parent.name, each.split, len(each.objects)) for each in found.images] == [
        ('x', 'train', 1), ('y', 'val', 0), ('y', None, 1)]
    assert objects_of(found, 'c.jpg')[0].box == (21, 40, 200, 160)
    text, = texts(found)
    assert 'd.jpg is 200 x 160, annotated 160 x 200' in text and 'EXIF' in text


def test_subsets_of_a_project_have_folders(tmp_path):
    for split in ('Train', 'Validation'):
        write_image(tmp_path / f'images/{split}/a.jpg')
    found = read(cvat(tmp_path, image(BOX, more=' subset="Train"'), image(BOX, BOX, more=' subset="Validation"')),
                 'cvat')
    assert not found.problems
    assert [(each.path.parent.name, each.split, len(each.objects)) for each in found.images] == [
        ('Train', 'train', 1), ('Validation', 'val', 2)]


def test_tags_are_classes_of_images_without_objects(tmp_path):
    for name in 'abc':
        write_image(tmp_path / f'{name}.jpg')
    tags = [f'<tag label="{name}" source="manual"></tag>' for name in ('cat', 'dog')]
    folder = cvat(tmp_path, image(tags[0]), image(*tags, name='b.jpg'), image(name='c.jpg'))
    found = read(folder, 'cvat')
    assert [image.label for image in found.images] == ['cat']
    assert ['2 tags' in text or '0 tags' in text for text in texts(found)] == [True, True]
    found = read(cvat(tmp_path, image(tags[0], BOX)), 'cvat')
    assert not found.is_classification and any('1 images have tags' in note for note in found.notes)


def track(*frames, label='cat'):
    boxes = ''.join(f'\n<box frame="{frame}" outside="{outside}" occluded="0" keyframe="1" xtl="{x}" ytl="10" '
                    f'xbr="{x + 20}" ybr="50"></box>' for frame, x, outside in frames)
    return f'<track id="0" label="{label}" source="manual">{boxes}\n</track>'


META = f'<task><size>4</size><mode>interpolation</mode><start_frame>0</start_frame>{LABELS}<original_size><width>200' \
       '</width><height>160</height></original_size></task>'


@pytest.mark.parametrize('first', [0, 1])  # ffmpeg counts from 1
def test_tracks_of_a_video_whose_frames_are_images(tmp_path, first):
    for number in range(4):
        write_image(tmp_path / f'images/frame_{number + first:06}.png')
    found = read(cvat(tmp_path, track((0, 10, 0), (1, 20, 0), (2, 20, 1)), track((1, 90, 0), label='dog'), meta=META),
                 'cvat')
    assert [[(each.name, each.box[0]) for each in image.objects] for image in found.images] == [
        [('cat', 10)], [('cat', 20), ('dog', 90)], [], []]
    assert found.classes == ['dog', 'cat'] and any('1 shapes of tracks' in note for note in found.notes)


def test_frames_that_are_not_stated_or_not_images(tmp_path):
    folder = cvat(tmp_path, track((0, 10, 0), (3, 20, 0), (7, 20, 0)), meta=META.replace('>4<', '>8<'))
    text, = texts(read(folder, 'cvat'))[2:]
    assert 'extract the frames' in text and '3 objects in 3 frames' in text
    for number in range(6):
        write_image(tmp_path / f'{number}.png')
    found = read(folder, 'cvat')
    assert [image.path.name for image in found.images] == ['0.png', '3.png']
    assert 'the frames 1 to 2 are not stated' in texts(found)[0] and 'frame 7 is not an image' in texts(found)[2]


def test_other_xml_files_are_noted(tmp_path):
    write_image(tmp_path / 'a.jpg')
    cvat(tmp_path, image(BOX))
    (tmp_path / 'x.xml').write_text('<annotation><filename>a.jpg</filename></annotation>')
    (tmp_path / 'bad.xml').write_text('<annotations><image ')
    found = read(tmp_path, 'cvat')
    assert any('1 XML files with another content' in note for note in found.notes)
    assert 'bad.xml' in texts(found)[0] and 'not valid XML' in texts(found)[0]
    assert np.array_equal(objects_of(found)[0].box, (10.5, 20, 110, 80.25))
