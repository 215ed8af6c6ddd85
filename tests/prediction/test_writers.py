"""Every format, read by an independent program or by hand, gives the boxes and masks within half a pixel."""

import csv
import json
import os

import numpy as np
import pytest
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO

from vitdet_plugin.errors import UserError
from vitdet_plugin.prediction.format_names import FILES, RESULTS
from vitdet_plugin.prediction.results import Classification, Detections
from vitdet_plugin.prediction.writers import FORMATS, ResultFiles, check_formats
from vitdet_plugin.utils.mask_rle import encode_masks

CLASSES = ('red apple', 'süß', 'plum')


def found(path='in/a b.jpg', masks=True, frame=None, count=3):
    """Detections of a ring, of two parts, and of nothing, in an image of 40 x 50 pixels."""
    image = np.zeros((3, 40, 50), bool)
    image[0, 5:20, 5:30] = True
    image[0, 10:14, 10:20] = False
    image[1, 20:30, 0:12] = image[1, 33:40, 20:45] = True
    boxes = np.array([[5, 5, 30, 20], [0, 20, 45, 40], [1.25, 2.5, 3.75, 9.5]], np.float32)
    labels = np.array([1, 0, 2])
    return Detections(path, boxes[:count], np.array([.9, .5, .25], np.float32)[:count], labels[:count],
                      [CLASSES[label] for label in labels[:count]], encode_masks(image)[:count] if masks else None,
                      frame, (40, 50))


def write(folder, formats, results, **options):
    files = ResultFiles(folder, formats, CLASSES, **options)
    for number, result in enumerate(results):
        files.add(result, f'sub/im{number}')
    files.close()
    return files


@pytest.mark.parametrize('masks', [True, False])
def test_coco_is_loaded_by_pycocotools(tmp_path, masks, capsys):
    write(tmp_path, ['coco'], [found(masks=masks), found('b.png', masks, count=0), found('v.mp4', masks, 7)])
    truth = COCO(str(tmp_path / 'coco_images.json'))
    results = truth.loadRes(str(tmp_path / 'coco_results.json'))
    assert [truth.imgs[number]['file_name'] for number in (1, 2, 3)] == ['in/a b.jpg', 'b.png', 'v.mp4']
    assert truth.imgs[3]['frame'] == 7 and (truth.imgs[1]['width'], truth.imgs[1]['height']) == (50, 40)
    objects = results.loadAnns(results.getAnnIds(imgIds=1))
    assert [truth.cats[each['category_id']]['name'] for each in objects] == ['süß', 'red apple', 'plum']
    np.testing.assert_allclose([each['bbox'] for each in objects],
                               [[5, 5, 25, 15], [0, 20, 45, 20], [1.25, 2.5, 2.5, 7]])
    assert [each['score'] for each in objects] == pytest.approx([.9, .5, .25])
    assert not results.getAnnIds(imgIds=2) and len(results.getAnnIds(imgIds=3)) == 3
    if masks:
        np.testing.assert_array_equal([results.annToMask(each) for each in objects], found().masks)


def polygon_mask(points):
    """Fill a polygon by the even-odd rule, sampled next to the centers of the pixels."""
    points = np.asarray(points)
    x, y = np.meshgrid(np.arange(50) + 0.501, np.arange(40) + 0.503)
    inside = np.zeros((40, 50), bool)
    for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, axis=0)):
        if y1 != y2:
            inside ^= ((y1 > y) != (y2 > y)) & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
    return inside


def test_yolo_polygons_enclose_the_pixels_of_the_mask(tmp_path):
    write(tmp_path, ['yolo'], [found(), found(count=0)])
    assert (tmp_path / 'classes.txt').read_text(encoding='utf-8').splitlines() == list(CLASSES)
    assert (tmp_path / 'labels/sub/im1.txt').read_text() == ''
    lines = [line.split() for line in (tmp_path / 'labels/sub/im0.txt').read_text().splitlines()]
    assert [line[0] for line in lines] == ['1', '0', '2']
    polygons = [np.array(line[1:], float).reshape(-1, 2) * (50, 40) for line in lines]
    for polygon, mask in zip(polygons[:2], found().masks):
        rles = mask_utils.frPyObjects([polygon.reshape(-1).tolist()], 40, 50)
        np.testing.assert_array_equal(mask_utils.decode(rles)[..., 0], mask)
        np.testing.assert_array_equal(polygon_mask(polygon), mask)
    np.testing.assert_allclose([polygons[2].min(0), polygons[2].max(0)], [[1.25, 2.5], [3.75, 9.5]], atol=1e-4)


@pytest.mark.parametrize('save_conf', [False, True])
def test_yolo_boxes(tmp_path, save_conf):
    write(tmp_path, ['yolo'], [found(masks=False)], save_conf=save_conf)
    lines = [line.split() for line in (tmp_path / 'labels/sub/im0.txt').read_text().splitlines()]
    assert {len(line) for line in lines} == {6 if save_conf else 5}
    x, y, w, h = np.array([line[1:5] for line in lines], float).T * [[50], [40], [50], [40]]
    np.testing.assert_allclose(np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 1), found().boxes, atol=1e-4)
    if save_conf:
        assert [float(line[5]) for line in lines] == pytest.approx([.9, .5, .25])


def test_labelme_shapes_and_the_path_of_the_image(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in/a b.jpg').touch()
    write(tmp_path / 'out', ['labelme'], [found(), found(masks=False)])
    content = json.loads((tmp_path / 'out/labelme/sub/im0.json').read_text(encoding='utf-8'))
    assert (content['imageHeight'], content['imageWidth'], content['imageData']) == (40, 50, None)
    assert os.path.samefile(tmp_path / 'out/labelme/sub' / content['imagePath'], tmp_path / 'in/a b.jpg')
    shapes = content['shapes']
    assert [(each['label'], each['shape_type'], each['group_id']) for each in shapes] == [
        ('süß', 'polygon', None), ('red apple', 'polygon', 1), ('red apple', 'polygon', 1), ('plum', 'rectangle', None)]
    masks = [polygon_mask(each['points']) for each in shapes[:3]]
    np.testing.assert_array_equal(masks[0], found().masks[0])
    np.testing.assert_array_equal(masks[1] | masks[2], found().masks[1])
    assert shapes[3]['points'] == [[1.25, 2.5], [3.75, 9.5]]
    content = json.loads((tmp_path / 'out/labelme/sub/im1.json').read_text())
    np.testing.assert_allclose([np.ravel(each['points']) for each in content['shapes']], found().boxes)


def test_csv_json_and_json_lines(tmp_path):
    write(tmp_path, ['csv', 'json', 'jsonl'], [found('a, "b".jpg'), found(count=0), found('v.mp4', frame=3)])
    with open(tmp_path / 'predictions.csv', newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 and rows[0]['filename'] == 'a, "b".jpg' and rows[5]['frame'] == '3'
    boxes = np.array([[row[key] for key in ('xmin', 'ymin', 'xmax', 'ymax')] for row in rows[:3]], float)
    np.testing.assert_allclose(boxes, found().boxes, atol=0.01)
    assert [row['class'] for row in rows[:3]] == found().names and float(rows[2]['score']) == pytest.approx(.25)
    lines = [json.loads(line) for line in (tmp_path / 'predictions.jsonl').read_text().splitlines()]
    records = json.loads((tmp_path / 'predictions.json').read_text())
    assert [{**record, 'width': 50, 'height': 40} for record in records] == lines
    masks = mask_utils.decode(records[0]['masks']).transpose(2, 0, 1)
    np.testing.assert_array_equal(masks, found().masks)


def test_every_file_is_complete_after_each_result(tmp_path):
    """What an interruption at any moment leaves can be read."""
    files = ResultFiles(tmp_path, ['coco', 'json', 'csv', 'jsonl'], CLASSES)
    for count in (1, 2, 3):
        files.add(found(f'{count}ü.jpg'), str(count))
        assert len(json.loads((tmp_path / 'coco_results.json').read_text())) == 3 * count
        assert len(json.loads((tmp_path / 'coco_images.json').read_text())['images']) == count
        assert len(json.loads((tmp_path / 'predictions.json').read_text())) == count
        assert len((tmp_path / 'predictions.jsonl').read_text().splitlines()) == count
        assert len((tmp_path / 'predictions.csv').read_text().splitlines()) == 3 * count + 1
    files.close()


def test_every_format_has_a_name_and_writes_its_file(tmp_path):
    assert FORMATS.keys() == FILES.keys()
    files = ResultFiles(tmp_path, list(FORMATS), CLASSES)
    files.add(Detections('a.png', np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, int), [], None,
                         (4, 5)), 'a')
    files.close()
    assert [path.name for path in files.paths] == [FILES[name] for name in FORMATS]
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith('.')} >= {*FILES.values(), *RESULTS}


def test_classes_of_images(tmp_path):
    scores = np.array([.7, .2, .1], np.float32)
    result = Classification('a.png', scores, np.array([1, 0, 2]), ['süß', 'red apple', 'plum'], None, (4, 5))
    write(tmp_path, ['csv', 'jsonl'], [result], top=2)
    assert (tmp_path / 'predictions.csv').read_text(encoding='utf-8').splitlines() == [
        'file,class,score', 'a.png,süß,0.700000']
    assert json.loads((tmp_path / 'predictions.jsonl').read_text())['names'] == ['süß', 'red apple']
    with pytest.raises(UserError, match='format yolo is for detectors'):
        check_formats(['csv', 'yolo'], is_classifier=True)
    with pytest.raises(UserError, match="'voc' is unknown; choose from coco, yolo"):
        check_formats(['voc'])


def test_a_file_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / 'labels').write_text('a file')
    with pytest.raises(UserError, match=r'im0\.txt could not be saved'):
        write(tmp_path, ['yolo'], [found()])
