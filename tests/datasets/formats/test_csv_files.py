"""CSV tables with the usual headers, without a header, and with labels only."""

import pytest

from tests.datasets.formats.reading import (
    CAT,
    DOG,
    assert_objects,
    read,
    recognized,
    splits,
    write,
    write_image,
)
from vitdet_plugin.errors import UserError

BOXES = {'cat': CAT[1], 'dog': DOG[1]}


def table(header, row, separator=',', empty=None) -> str:
    """A table of both objects; ``row`` is a format with names of numbers, ``|`` stands for the separator."""
    lines = [header] if header else []
    for label, (x1, y1, x2, y2) in (CAT, DOG):
        lines.append(row.format(n='a.jpg', s='a', c=label, x1=x1, y1=y1, x2=x2, y2=y2, w=x2 - x1, h=y2 - y1,
                                cx=(x1 + x2) / 2, cy=(y1 + y2) / 2, rx1=x1 / 100, ry1=y1 / 80, rx2=x2 / 100,
                                ry2=y2 / 80))
    if empty:
        lines.append(empty)
    return '\n'.join(lines).replace('|', separator) + '\n'


@pytest.mark.parametrize(('header', 'row'), [
    ('filename|width|height|class|xmin|ymin|xmax|ymax', '{n}|100|80|{c}|{x1}|{y1}|{x2}|{y2}'),
    ('Filename|Width|Height|Class|X Min|Y Min|X Max|Y Max', '{n}|100.0|80|{c}|{x1}|{y1}|{x2}|{y2}'),
    ('', 'images/{n}|{x1}|{y1}|{x2}|{y2}|{c}'), ('', '{n}|100|80|{c}|{x1}|{y1}|{x2}|{y2}'),
    ('', '{c}|{x1}|{y1}|{w}|{h}|{n}|100|80'), ('path|x1|y1|x2|y2|class', '/home/a/images/{n}|{x1}|{y1}|{x2}|{y2}|{c}'),
    ('ImageID|Source|LabelName|Confidence|XMin|XMax|YMin|YMax|IsOccluded|IsGroupOf',
     '{s}|x|{c}|1|{rx1}|{rx2}|{ry1}|{ry2}|0|0'),
    ('image_id|width|height|bbox|label', '{s}|100|80|"[{x1}, {y1}, {w}, {h}]"|{c}'),
    ('image_name|BoxesString|label', '{s}|{x1} {y1} {x2} {y2}|{c}'),
    ('image|x0|y0|x1|y1|label', '{n}|{x1}|{y1}|{x2}|{y2}|{c}'), ('image|left|top|right|bottom|label_name',
                                                               '{n}|{x1}|{y1}|{x2}|{y2}|{c}'),
    ('img_name|x|y|width|height|category', '{n}|{x1}|{y1}|{w}|{h}|{c}'),
    ('image_path|bbox_x|bbox_y|bbox_width|bbox_height|image_width|image_height|class_name',
     'images\\{n}|{x1}|{y1}|{w}|{h}|100|80|{c}'), ('file|x_center|y_center|w|h|cls', '{n}|{cx}|{cy}|{w}|{h}|{c}'),
    ('filename|top_left_x|top_left_y|bottom_right_x|bottom_right_y|label', '{n}|{x1}|{y1}|{x2}|{y2}|{c}'),
    ('filename|left_x|top_y|right_x|bottom_y|label', '{n}|{x1}|{y1}|{x2}|{y2}|{c}'),
    ('Filename|Width|Height|Roi.X1|Roi.Y1|Roi.X2|Roi.Y2|ClassId', '{n}|100|80|{x1}|{y1}|{x2}|{y2}|{c}'),
    ('Filename|Annotation tag|Upper left corner X|Upper left corner Y|Lower right corner X|Lower right corner Y|Frame',
     '{n}|{c}|{x1}|{y1}|{x2}|{y2}|7'), ('path|l|t|r|b|class', '{n}|{x1}|{y1}|{x2}|{y2}|{c}'),
    ('image|bb_left|bb_top|bb_width|bb_height|class', '{n}|{x1}|{y1}|{w}|{h}|{c}'),
    ('', '{n}|{x1}|{y1}|{x2}|{y2}|{c}|100|80')])
@pytest.mark.parametrize('separator', [',', ';', '\t'])
def test_headers_and_separators(tmp_path, header, row, separator):
    write_image(tmp_path / 'images/a.jpg')
    write_image(tmp_path / 'images/unlisted.jpg')
    write(tmp_path / 'labels.csv', table(header, row, separator))
    found = read(tmp_path, 'csv')
    assert_objects(found, tmp_path, {'images/a.jpg': [CAT, DOG]})
    assert found.classes == ['cat', 'dog'] and not found.problems
    assert '1 images are in no table and are left out: images/unlisted.jpg' in found.notes


@pytest.mark.parametrize(('codec', 'name'), [
    ('utf-8-sig', '猫'), ('utf-16', '猫'), ('utf-32', '猫'), ('gbk', '猫狗'), ('latin-1', 'pêche')])
def test_encodings(tmp_path, codec, name):
    write_image(tmp_path / f'{name}.jpg')
    write(tmp_path / 'a.csv', f'filename,class,xmin,ymin,xmax,ymax\r\n{name}.jpg,{name},10,20,40,60\r\n', codec)
    assert_objects(read(tmp_path, 'csv'), tmp_path, {f'{name}.jpg': [(name, CAT[1])]})


def test_decimal_commas(tmp_path):
    write_image(tmp_path / 'a.jpg')
    write(tmp_path / 'a.csv', 'filename;class;xmin;ymin;xmax;ymax\na.jpg;dog;50,5;30,25;90,5;70,25')
    assert_objects(read(tmp_path, 'csv'), tmp_path, {'a.jpg': [DOG]})


@pytest.mark.parametrize('empty', ['b.jpg,,,,,', 'b.jpg,nan,NaN,nan,nan,No finding'])
def test_rows_without_box_are_background(tmp_path, empty):
    for name in 'ab':
        write_image(tmp_path / f'{name}.jpg')
    write(tmp_path / 'a.csv', table('path,x1,y1,x2,y2,class', '{n},{x1},{y1},{x2},{y2},{c}', empty=empty))
    found = read(tmp_path, 'csv')
    assert_objects(found, tmp_path, {'a.jpg': [CAT, DOG], 'b.jpg': []})
    assert found.classes == ['cat', 'dog'] and any('1 rows state no box' in note for note in found.notes)


def test_splits_of_several_tables_and_of_a_column(tmp_path):
    rows = {}
    for name in 'abcd':
        write_image(tmp_path / f'{name}.jpg')
        rows[name] = f'{name}.jpg,cat,10,20,40,60\n'
    head = 'filename,class,xmin,ymin,xmax,ymax'
    write(tmp_path / 'train_labels.csv', f'{head}\n{rows["a"]}')
    write(tmp_path / 'test_labels.csv', f'{head}\n{rows["b"]}{rows["a"]}')
    write(tmp_path / 'all.csv', f'{head},split\n{rows["a"]}c.jpg,dog,10,20,40,60,valid\n{rows["d"]}')
    write(tmp_path / 'sample_submission.csv', 'image_id,PredictionString\na,\n')
    found = read(tmp_path, 'csv')
    assert splits(found, tmp_path) == {'b.jpg': 'test', 'a.jpg': 'test', 'c.jpg': 'val', 'd.jpg': None}
    assert [len(image.objects) for image in found.images] == [1, 1, 1, 1]
    assert len(found.problems) == 1 and 'a.jpg is in test by another table and in train' in str(found.problems[0])
    assert '1 CSV files are ignored: sample_submission.csv' in found.notes


def test_classes_of_open_images_and_groups(tmp_path):
    write_image(tmp_path / 'train/0001.jpg')
    write(tmp_path / 'class-descriptions-boxable.csv', '/m/01,Cat\n/m/02,"Dog, large"\n')
    write(tmp_path / 'train-annotations-bbox.csv', 'ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf\n'
                                                   '0001,/m/01,0.1,0.4,0.25,0.75,0\n0001,/m/02,-0.01,1,0,1.02,1\n')
    found = read(tmp_path, 'csv')
    assert_objects(found, tmp_path, {'train/0001.jpg': [('Cat', CAT[1]), ('Dog, large', (0, 0, 100, 80))]})
    assert [each.is_crowd for each in found.images[0].objects] == [False, True] and found.images[0].split == 'train'


@pytest.mark.parametrize('row', ['{split}gs://b/images/{n},{c},{rx1},{ry1},,,{rx2},{ry2},,',
                                 '{split}gs://b/images/{n},{c},{rx1},{ry1},{rx2},{ry1},{rx2},{ry2},{rx1},{ry2}'])
@pytest.mark.parametrize('split', ['TRAIN', 'UNASSIGNED', ''])
def test_tables_of_vertex_ai(tmp_path, row, split):
    write_image(tmp_path / 'images/a.jpg')
    write(tmp_path / 'a.csv', table('', row.replace('{split}', f'{split},' if split else '')))
    found = read(tmp_path, 'csv')
    assert_objects(found, tmp_path, {'images/a.jpg': [CAT, DOG]})
    assert found.images[0].split == ('train' if split == 'TRAIN' else None) and not found.problems


def test_labels_of_vertex_ai(tmp_path):
    for name in 'ab':
        write_image(tmp_path / f'{name}.jpg')
    write(tmp_path / 'a.csv', 'TRAINING,gs://bucket/a.jpg,cat\nVALIDATION,gs://bucket/b.jpg,dog\n')
    found = read(tmp_path, 'csv')
    assert [(each.label, each.split) for each in found.images] == [('cat', 'train'), ('dog', 'val')]


@pytest.mark.parametrize(('header', 'cell', 'is_class'), [
    ('cell_type', 'WBC', True), ('Insect Species', 'bee', True), ('source', 'usask_1', False),
    ('file_type', 'jpg', False), ('type_number', '3', False)])
def test_a_column_whose_name_contains_a_word_for_classes(tmp_path, header, cell, is_class):
    write_image(tmp_path / 'a.jpg')
    write(tmp_path / 'a.csv', f'filename,{header},xmin,xmax,ymin,ymax\na.jpg,{cell},10,40,20,60\n')
    assert_objects(read(tmp_path, 'csv'), tmp_path, {'a.jpg': [(cell if is_class else 'object', CAT[1])]})


@pytest.mark.parametrize(('header', 'rows', 'boxes', 'note'), [
    ('boxes', ['10, 20, 45, 50'], [(10, 20, 45, 50)], 'x1, y1, x2, y2 (all 1 are within their images as both'),
    ('boxes', ['50, 20, 45, 50'], [(50, 20, 95, 70)], 'x, y, width, height (1 of 1 are within their images so, 0 as'),
    ('bbox', ['10, 20, 45, 50'], [(10, 20, 55, 70)], 'x, y, width, height (all 1 are within their images as both'),
    ('bbox', ['10, 20, 45, 50', '60, 50, 95, 75'], [(10, 20, 45, 50), (60, 50, 95, 75)],
     'x1, y1, x2, y2 (2 of 2 are within their images so, 1 as x, y, width, height)'),
    # one wrong row does not decide about all
    ('bbox', ['10, 20, 45, 50', '60, 50, 95, 75', '60, 50, 98, 75', '40, 30, 20, 50'],
     [(10, 20, 45, 50), (60, 50, 95, 75), (60, 50, 98, 75)], 'x1, y1, x2, y2 (3 of 4')])
def test_form_of_the_boxes_of_one_column(tmp_path, header, rows, boxes, note):
    write_image(tmp_path / 'a.jpg')
    for index, row in enumerate(rows):  # all tables are of one form
        write(tmp_path / f'{index}.csv', f'image,{header},labels\na.jpg,"[{row}]",cat\n')
    found = read(tmp_path, 'csv')
    assert_objects(found, tmp_path, {'a.jpg': [('cat', box) for box in boxes]})
    assert any(f'the numbers of a box are read as {note}' in each for each in found.notes)


@pytest.mark.parametrize(('labels', 'names'), [
    ("['cat', 'dog']", ['cat', 'dog']), ('[""cat"", ""hot dog""]', ['cat', 'hot dog']),
    ("['cat' 'dog']", ['cat', 'dog']), ('[1, 2]', ['1', '2']), ('[1 2]', ['1', '2']),
    ("['cat']", ['cat', 'cat']), ('cat', ['cat', 'cat'])])
def test_lists_of_classes(tmp_path, labels, names):
    write_image(tmp_path / 'a.jpg')
    write(tmp_path / 'a.csv', f'image,boxes,labels\na.jpg,"[[10, 20, 40, 60], [50, 30, 90, 70]]","{labels}"\n')
    found = read(tmp_path, 'csv')
    assert_objects(found, tmp_path, {'a.jpg': [(names[0], (10, 20, 40, 60)), (names[1], (50, 30, 90, 70))]})


def test_another_number_of_classes_than_boxes_is_a_problem(tmp_path):
    write_image(tmp_path / 'a.jpg')
    write(tmp_path / 'a.csv', 'image,boxes,labels\na.jpg,"[[10, 20, 40, 60]]","[1, 2]"\na.jpg,"[10, 20, 40, 60]",1\n')
    found = read(tmp_path, 'csv')
    assert [str(each).endswith('a.csv:2: 1 boxes and 2 classes') for each in found.problems] == [True]
    assert_objects(found, tmp_path, {'a.jpg': [('1', (10, 20, 40, 60))]})


@pytest.mark.parametrize('cell', ['nan', 'NaN', 'None', 'null', ''])
def test_cells_that_stand_for_no_class(tmp_path, cell):
    for name in 'ab':
        write_image(tmp_path / f'{name}.jpg')
    write(tmp_path / 'a.csv', f'image,xmin,ymin,xmax,ymax,class\na.jpg,10,20,40,60,cat\nb.jpg,10,20,40,60,{cell}\n')
    found = read(tmp_path, 'csv')
    assert found.classes == ['cat'] and [each.line for each in found.problems] == [3]
    write(tmp_path / 'a.csv', f'image,class\na.jpg,cat\nb.jpg,{cell}\n')
    found = read(tmp_path, 'csv')
    assert found.classes == ['cat'] and 'an image without a label' in str(found.problems[0])


def test_boxes_without_classes(tmp_path):
    write_image(tmp_path / 'a.jpg')
    write(tmp_path / 'train.csv', 'image_id,width,height,bbox,source\na,100,80,"[10.0, 20, 30, 40]",x\n')
    assert_objects(read(tmp_path, 'csv'), tmp_path, {'a.jpg': [('object', CAT[1])]})


def test_each_fault_is_a_problem(tmp_path):
    for name in ('a', 'wide'):
        write_image(tmp_path / f'{name}.jpg', (200, 80) if name == 'wide' else (100, 80))
    write_image(tmp_path / 'rotated.jpg', orientation=6)
    write(tmp_path / 'a.csv', 'filename,width,height,class,xmin,ymin,xmax,ymax\n'
          'a.jpg,100,80,cat,10,20,40,60\na.jpg,100,80,cat,10,x,40,60\na.jpg,100,80,,10,20,40,60\na.jpg,100,80\n'
          'a.jpg,100,80,cat,40,20,10,60\ngone.jpg,100,80,cat,10,20,40,60\nwide.jpg,100,80,cat,10,20,40,60\n'
          'rotated.jpg,100,80,cat,10,20,40,60\nwide.jpg,100,80,cat,10,20,40,60\na.jpg,100,80,dog,60,10,130,90\n')
    found = read(tmp_path, 'csv')
    assert_objects(found, tmp_path, {'a.jpg': [CAT, ('dog', (60, 10, 100, 80))]})
    texts = [str(each) for each in found.problems]
    for part in ("a.csv:3: cat: a box needs four numbers, found '10', 'x', '40', '60'",
                 'a.csv:4: an object without a class name',
                 'a.csv:5: 3 cells, expected 8', 'a.csv:6: cat: box (40, 20, 10, 60) has no area',
                 'a.csv:7: the image gone.jpg is not below', 'a.csv:8: ', 'its 2 rows are left out',
                 'wide.jpg is 200 x 80, annotated', 'a.csv:9: ', 'the file has an EXIF orientation'):
        assert any(part in text for text in texts), part
    assert len(texts) == 7 and found.clipped == 1


@pytest.mark.parametrize(('header', 'rows'), [
    ('image,label', ['{0},{1}', '{0}.jpg,{1}']), ('id,breed', ['{0},{1}']), ('label;File Name', ['{1};{0}.jpg']),
    ('', ['x/{0}.jpg,{1}'])])
def test_labels_of_images(tmp_path, header, rows):
    for name in '123':
        write_image(tmp_path / f'x/{name}.jpg')
    row = rows[-1]
    write(tmp_path / 'train.csv', '\n'.join([header, *(row.format(*each) for each in (
        ('1', 'cat'), ('2', 'dog'), ('2', 'dog'), ('1', 'dog'), ('4', 'cat')))]).strip())
    found = read(tmp_path, 'csv')
    assert [(image.path.name, image.label, image.split) for image in found.images] == [
        ('1.jpg', 'cat', 'train'), ('2.jpg', 'dog', 'train')]
    assert found.is_classification and found.classes == ['cat', 'dog'] and len(found.problems) == 2
    assert 'has the label cat in another row, dog in this one' in str(found.problems[0])
    assert '1 rows repeat an earlier one and count once' in found.notes


def test_columns_of_numbers_that_are_not_read_are_named(tmp_path):
    write_image(tmp_path / 'a.jpg')
    write(tmp_path / 'a.csv', 'image,p,q,r0,s,label,note\na.jpg,10,20,40,60,cat,x\n')
    found = read(tmp_path, 'csv')
    assert found.is_classification and found.notes == [
        'a.csv: the columns of numbers p, q, r0, s are not read, and each image has one class; if they are boxes, name '
        'four of them xmin, ymin, xmax, ymax']
    write(tmp_path / 'a.csv', 'image,age,left,score,label\na.jpg,10,20,40,cat\n')
    assert read(tmp_path, 'csv').notes == []


def test_labels_of_names_that_occur_in_each_folder(tmp_path):
    for split in ('train', 'val'):
        for name in ('cat', 'dog'):
            write_image(tmp_path / f'{split}/{name}/1.jpg')
    rows = [f'{split},{name},1.jpg' for split in ('train', 'val') for name in ('cat', 'dog')]
    write(tmp_path / 'manifest.csv', '\n'.join(['split,class,file', *rows]))
    found = read(tmp_path, 'csv')
    assert {path: image.label for path, image in zip(splits(found, tmp_path), found.images)} == {
        f'{split}/{name}/1.jpg': name for split in ('train', 'val') for name in ('cat', 'dog')}
    assert read(tmp_path, 'class-folders', 'class-folders').count_objects() == found.count_objects()


@pytest.mark.parametrize('text', [
    'epoch,loss\n1,2', 'filename,license\na.jpg,MIT', '', 'one column\na.jpg',
    'image,label\nx,y'])
def test_other_tables_are_not_recognized(tmp_path, text):
    write_image(tmp_path / 'a.jpg')
    write(tmp_path / 'a.csv', text)
    assert recognized(tmp_path) == []


def test_a_column_of_0_and_1_for_each_class(tmp_path):
    """Roboflow's export for classes of images."""
    for split in ('train', 'valid'):
        for name in 'abc':
            write_image(tmp_path / f'{split}/{name}.jpg')
        write(tmp_path / f'{split}/_classes.csv', 'filename, cat, dog\na.jpg,1,0\nb.jpg,0,1\nc.jpg,0,1\n')
    found = read(tmp_path, 'csv')
    assert [(image.label, image.split) for image in found.images] == [
        (label, split) for split in ('train', 'val') for label in ('cat', 'dog', 'dog')]
    assert found.classes == ['cat', 'dog'] and not found.problems and not found.notes
    write(tmp_path / 'valid/_classes.csv', 'filename, cat, dog\na.jpg,1,1\nb.jpg,0,0\nc.jpg,0\ngone.jpg,0,1\n')
    texts = [str(each) for each in read(tmp_path, 'csv').problems]
    for part in ('_classes.csv:4: 2 cells, expected 3', '2: a.jpg: several labels (cat, dog); keep one',
                 '3: b.jpg: an image without a label', '5: '):
        assert any(part in text for text in texts), part
    assert len(texts) == 4


def test_classes_that_occur_with_others_only_are_an_error(tmp_path):
    for name in 'abc':
        write_image(tmp_path / f'train/{name}.jpg')
    write(tmp_path / 'train/_classes.csv', 'filename, cat, dog\na.jpg,1,0\nb.jpg,1,1\nc.jpg,1,1\n')
    with pytest.raises(UserError, match='dog occur only in rows with several labels'):
        read(tmp_path, 'csv')
    write(tmp_path / 'train/_classes.csv', 'filename, cat, dog\na.jpg,1,0\nb.jpg,1,1\nc.jpg,0,1\n')
    found = read(tmp_path, 'csv')
    assert [image.label for image in found.images] == ['cat', 'dog']
    assert len(found.problems) == 1 and not found.notes  # b.jpg is a problem, not an image in no table


def test_images_in_no_table_in_folders_of_classes(tmp_path):
    for name in ('train/cat/a.jpg', 'train/dog/b.jpg', 'val/cat/c.jpg', 'figures/d.jpg'):
        write_image(tmp_path / name)
    write(tmp_path / 'train.csv', 'filename,class\na.jpg,cat\nb.jpg,dog\n')
    found = read(tmp_path, 'csv')
    assert any('2 images are in no table and are left out (1 of them in folders of class names: --format class-folders '
               'reads' in note for note in found.notes)
    assert len(read(tmp_path, 'class-folders', 'class-folders').images) == 3
