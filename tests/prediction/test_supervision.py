"""``to_supervision()`` with the package itself: fields, filters, drawing, and files that it writes."""

import json
import sys

import cv2
import numpy as np
import pytest

from vitdet_plugin.errors import UserError
from vitdet_plugin.prediction.results import Detections


@pytest.fixture(scope='module')
def sv():
    return pytest.importorskip('supervision', reason='the extra "supervision" is not installed')


@pytest.fixture(scope='module')
def found(images, detector):
    result, = detector.predict(images / 'x/wide.png', 0.05)
    assert len(result) > 2 and result.masks.any()
    return result


def empty(rles):
    boxes, scores, labels = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)
    return Detections(None, boxes, scores, labels, [], rles, None, (60, 100))


def test_without_the_package_one_line_says_what_to_install(found, monkeypatch):
    monkeypatch.setitem(sys.modules, 'supervision', None)
    with pytest.raises(UserError) as raised:
        found.to_supervision()
    assert str(raised.value) == ('to_supervision() requires the package supervision. Run pip install '
                                 '"vitdet-plugin[supervision]".')


def test_fields_and_filters(sv, found):
    converted = found.to_supervision()
    assert isinstance(converted, sv.Detections) and len(converted) == len(found)
    assert (converted.xyxy == found.boxes).all() and (converted.confidence == found.scores).all()
    assert (converted.class_id == found.labels).all() and (converted.mask == found.masks).all()
    name = found.names[0]
    part = converted[converted.data['class_name'] == name]
    assert len(part) == found.names.count(name) == len(part.mask)
    assert (converted.area == found.masks.sum((1, 2))).all()


@pytest.mark.parametrize('rles', [[], None])
def test_no_objects(sv, found, rles):
    nothing, converted = empty(rles).to_supervision(), found.to_supervision()
    assert len(nothing) == 0 and nothing == nothing[nothing.confidence > 0.5]
    assert len(sv.Detections.merge([converted, nothing])) == len(converted)
    image = np.zeros((60, 100, 3), np.uint8)
    assert not sv.MaskAnnotator().annotate(image.copy(), nothing).any()


def test_drawing(sv, found):
    image, converted = np.zeros((60, 100, 3), np.uint8), found.to_supervision()
    assert (sv.MaskAnnotator(opacity=1).annotate(image.copy(), converted).any(2) == found.masks.any(0)).all()
    for annotator in (sv.BoxAnnotator(), sv.LabelAnnotator()):
        assert annotator.annotate(image.copy(), converted).any()


def test_files(sv, found, images, tmp_path):
    """supervision's own COCO writer gives the boxes of ``to_coco``."""
    cv2.imwrite(str(tmp_path / 'a.png'), cv2.imread(str(images / 'x/wide.png')))
    path = str(tmp_path / 'a.png')
    dataset = sv.DetectionDataset(['red apple', 'lime', 'plum'], [path], {path: found.to_supervision()})
    dataset.as_coco(annotations_path=str(tmp_path / 'a.json'))
    written = json.loads((tmp_path / 'a.json').read_text())['annotations']
    boxes = {tuple(np.round(each['bbox'], 2)) for each in written}
    assert boxes and boxes <= {tuple(np.round(each['bbox'], 2)) for each in found.to_coco()}
