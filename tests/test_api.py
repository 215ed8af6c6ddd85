"""The Inferencer with a tiny random detector: inputs, outputs, errors."""

import json
import pickle
import re

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image
from pycocotools import mask as mask_utils

from tests.end_to_end.tiny_set import CLASSES, CONFIG, write_tiny_set
from vitdet_plugin.api import Inferencer
from vitdet_plugin.errors import UserError

# our names -> names of mmdet's projects/ViTDet, to write a checkpoint in that format
_OURS_TO_PROJECT = [
    (r'^neck\.levels\.0\.resize\.', 'neck.fpn1.'), (r'^neck\.levels\.1\.resize\.', 'neck.fpn2.'),
    (r'^neck\.levels\.(\d)\.lateral\.', r'neck.lateral_convs.\1.'),
    (r'^neck\.levels\.(\d)\.output\.', r'neck.fpn_convs.\1.'), (r'\.ln\.', '.norm_layer.'),
]


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Images, and a checkpoint of random weights in the format of mmengine."""
    folder = tmp_path_factory.mktemp('api')
    write_tiny_set(folder / 'set', images=3)
    image = np.random.default_rng(0).integers(0, 255, (60, 100, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / 'wide.png'), image)
    init_default_scope('mmdet')
    from mmdet.registry import MODELS
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(CONFIG).model)
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=('a', 'b', 'c')))),
               folder / 'ours.pth')
    return folder


@pytest.fixture(scope='module')
def detector(files):
    return Inferencer.load(CONFIG, files / 'ours.pth', 'cpu')


def test_models_are_listed_by_the_names_that_load_accepts():
    names = Inferencer.list_models()
    assert {'vitdet_100e', 'cascade-mask-rcnn_vitdet-h_lsj-75e_coco'} <= set(names)
    assert not any('lsj.py' in name or name == 'runtime' for name in names)


def test_results_are_in_pixels_of_the_original_image(files, detector):
    found, = detector.predict(files / 'wide.png', score_thr=0.05)
    assert 0 < len(found) <= 10
    assert found.path == str(files / 'wide.png')
    assert found.boxes.shape == (len(found), 4) and found.boxes.max() > 64  # the network's input has 64 x 38 pixels
    assert (found.boxes >= 0).all() and (found.boxes <= [100, 60, 100, 60]).all()
    assert found.masks.shape == (len(found), 60, 100) and found.masks.dtype == bool
    assert (np.diff(found.scores) <= 0).all()
    assert found.names == ['abc'[label] for label in found.labels]


def test_agrees_with_mmdets_own_inference(files, detector):
    from mmdet.apis import inference_detector
    detector.model.cfg = detector.cfg
    sample = inference_detector(detector.model, str(files / 'wide.png')).pred_instances
    found, = detector.predict(files / 'wide.png', score_thr=0)
    order = torch.argsort(-sample.scores, stable=True)
    np.testing.assert_allclose(found.boxes, sample.bboxes[order].numpy(), atol=1e-4)
    np.testing.assert_allclose(found.scores, sample.scores[order].numpy(), atol=1e-6)
    assert (found.masks == sample.masks[order].numpy()).all()


def test_files_folders_arrays_and_lists(files, detector):
    array = cv2.imread(str(files / 'wide.png'))
    results = detector.predict([files / 'wide.png', array, files / 'set' / 'images'], score_thr=0)
    names = [found.path and found.path.rsplit('/', 1)[-1] for found in results]
    assert names == ['wide.png', None, '001.jpg', '002.jpg', '003.jpg']
    np.testing.assert_array_equal(results[0].boxes, results[1].boxes)


def test_detections_below_the_score_threshold_are_removed(files, detector):
    everything, = detector.predict(files / 'wide.png', score_thr=0)
    threshold = float(np.median(everything.scores))
    kept, = detector.predict(files / 'wide.png', score_thr=threshold)
    assert len(kept) == (everything.scores >= threshold).sum() < len(everything) == len(everything.names)


def test_drawn_images_have_unique_names(files, detector, tmp_path):
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'wide.jpg').write_bytes((files / 'set/images/001.jpg').read_bytes())
    array = np.zeros((40, 40, 3), np.uint8)
    detector.predict([files / 'wide.png', tmp_path / 'other', array], out_dir=tmp_path / 'out')
    assert sorted(path.name for path in (tmp_path / 'out').glob('*.jpg')) == ['image_2.jpg', 'wide.jpg', 'wide_2.jpg']
    assert cv2.imread(str(tmp_path / 'out' / 'wide.jpg')) is not None


def test_as_dict_can_be_written_as_json(files, detector):
    found, = detector.predict(files / 'wide.png', score_thr=0)
    plain = json.loads(json.dumps(found.as_dict()))
    np.testing.assert_allclose(plain['boxes'], found.boxes, atol=1e-4)
    masks = mask_utils.decode(plain['masks']).astype(bool)
    np.testing.assert_array_equal(masks.transpose(2, 0, 1), found.masks)


def test_an_official_checkpoint_gives_the_same_detections(files, detector, tmp_path):
    state = torch.load(files / 'ours.pth', weights_only=True)['state_dict']
    for pattern, replacement in _OURS_TO_PROJECT:
        state = {re.sub(pattern, replacement, name): value for name, value in state.items()}
    with open(tmp_path / 'zoo.pkl', 'wb') as file:  # detectron2's container: a pickle of arrays
        pickle.dump(dict(model={name: value.numpy() for name, value in state.items()}, __author__='x'), file)
    official = Inferencer.load(CONFIG, tmp_path / 'zoo.pkl', 'cpu')
    assert official.classes == CLASSES  # the file has no names, so those of the config are used
    expected, = detector.predict(files / 'wide.png')
    found, = official.predict(files / 'wide.png')
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_a_work_directory_selects_its_best_checkpoint(files, tmp_path):
    state = torch.load(files / 'ours.pth', weights_only=True)
    for name, classes in (('best_coco_bbox_mAP_iter_2.pth', 'xyz'), ('iter_4.pth', 'abc')):
        torch.save({**state, 'meta': dict(dataset_meta=dict(classes=tuple(classes)))}, tmp_path / name)
    assert Inferencer.load(CONFIG, tmp_path, 'cpu').classes == ('x', 'y', 'z')
    (tmp_path / 'best_coco_bbox_mAP_iter_2.pth').unlink()
    assert Inferencer.load(CONFIG, tmp_path, 'cpu').classes == ('a', 'b', 'c')


@pytest.mark.parametrize('options', [['model.test_cfg.rcnn.max_per_img=2'], {'model.test_cfg.rcnn.max_per_img': 2}])
def test_options_change_the_config(files, options):
    detector = Inferencer.load(CONFIG, files / 'ours.pth', 'cpu', options)
    assert len(detector.predict(files / 'wide.png', score_thr=0)[0]) == 2


def test_images_in_memory(files, detector):
    array = cv2.imread(str(files / 'wide.png'))
    expected, *others = detector.predict([array, Image.open(files / 'wide.png'), (files / 'wide.png').read_bytes(),
                                          torch.from_numpy(array[..., ::-1].copy()).permute(2, 0, 1)], score_thr=0)
    for found in others:
        np.testing.assert_array_equal(found.boxes, expected.boxes)
    assert detector.predict([]) == []


def test_a_broken_file_in_a_folder_is_a_warning(files, detector, tmp_path):
    (tmp_path / 'good.png').write_bytes((files / 'wide.png').read_bytes())
    (tmp_path / 'bad.png').write_bytes((files / 'wide.png').read_bytes()[:100])
    with pytest.warns(UserWarning, match='left out: .*bad.png cannot be read'):
        found, = detector.predict(tmp_path)
    assert found.path == str(tmp_path / 'good.png')


def test_random_weights_are_a_warning():
    with pytest.warns(UserWarning, match='no checkpoint was given: the weights of the model are random'):
        Inferencer.load(CONFIG, device='cpu')
    with pytest.raises(UserError, match='Inferencer.load'):
        Inferencer('vitdet_demo')


def test_errors_are_one_line(files, detector, tmp_path):
    (tmp_path / 'broken.jpg').write_bytes(b'not an image')
    (tmp_path / 'empty').mkdir()
    backbone = {k: v for k, v in torch.load(files / 'ours.pth', weights_only=True)['state_dict'].items()
                if k.startswith('backbone.')}
    torch.save(dict(state_dict=backbone), tmp_path / 'backbone.pth')
    for call, words in [
        (lambda: Inferencer.load('vitdet_100'), 'did you mean vitdet_100e'),
        (lambda: Inferencer.load('https://example.org/config.py'), 'does not exist'),
        (lambda: Inferencer.load(CONFIG, tmp_path / 'empty'), 'holds no checkpoint'),
        (lambda: Inferencer.load(CONFIG, tmp_path / 'none.pth'), 'none.pth does not exist'),
        (lambda: Inferencer.load(CONFIG, tmp_path / 'backbone.pth'), 'no weights for neck, roi_head, rpn_head'),
        (lambda: detector.predict(tmp_path / 'nothing.jpg'), 'nothing.jpg does not exist'),
        (lambda: detector.predict(tmp_path / 'empty'), 'holds no images'),
        (lambda: detector.predict(tmp_path / 'broken.jpg'), 'broken.jpg cannot be read'),
        (lambda: detector.predict(np.zeros((4, 4, 2), np.uint8)), 'image array: expected (H, W, 3)'),
    ]:
        with pytest.raises(UserError, match=re.escape(words)) as caught:
            call()
        assert '\n' not in str(caught.value)
