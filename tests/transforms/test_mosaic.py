"""Mosaic with affine, the affine alone, the box filter, MixUp and color augmentation."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.datasets.transforms import Mosaic
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.registry import TRANSFORMS

from vitdet_plugin.errors import UserError
from vitdet_plugin.transforms.hsv import MultiplicativeHSV
from vitdet_plugin.transforms.mixup import MosaicMixUp
from vitdet_plugin.transforms.mosaic import MosaicAffine
from vitdet_plugin.transforms.random_affine import CenteredRandomAffine, transform_boxes


def make_sample(height, width, seed, boxes=3):
    """A smooth image, so that two ways of interpolating differ little, with random boxes."""
    rng = np.random.default_rng(seed)
    img = cv2.resize(rng.integers(0, 255, (4, 5, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    low = rng.uniform(0, 0.6, (boxes, 2)) * (width, height)
    high = low + rng.uniform(0.1, 0.4, (boxes, 2)) * (width, height)
    corners = torch.tensor(np.concatenate((low, high), 1), dtype=torch.float32)
    return dict(img=img, img_shape=img.shape[:2], gt_bboxes=HorizontalBoxes(corners),
                gt_bboxes_labels=rng.integers(0, 5, boxes), gt_ignore_flags=np.zeros(boxes, dtype=bool))


def four_samples(seed, sizes=((80, 64), (48, 96), (64, 64), (30, 40))):
    parts = [make_sample(h, w, seed + i) for i, (h, w) in enumerate(sizes)]
    return dict(parts[0], mix_results=parts[1:])


@pytest.mark.parametrize('geometry', [dict(), dict(degrees=20.0, shear=5.0)], ids=['upright', 'rotated'])
@pytest.mark.parametrize('seed', range(4))
def test_equals_mmdets_mosaic_followed_by_the_affine(seed, geometry, monkeypatch):
    """The same random numbers in the same order give the same boxes and nearly the same image."""
    size = 64
    fused, affine = MosaicAffine(size, **geometry), CenteredRandomAffine(border=(-size // 2,) * 2, **geometry)
    mosaic = Mosaic(img_scale=(size, size))
    monkeypatch.setattr('mmdet.datasets.transforms.transforms.random.uniform', _skip_first(np.random.uniform))
    np.random.seed(seed)
    two_steps = affine.transform(mosaic.transform(four_samples(seed)))
    monkeypatch.undo()
    np.random.seed(seed)
    ours = fused.transform(four_samples(seed))
    assert ours['img'].shape == two_steps['img'].shape == (size, size, 3)
    torch.testing.assert_close(ours['gt_bboxes'].tensor, two_steps['gt_bboxes'].tensor, atol=1e-3, rtol=0)
    assert ours['gt_bboxes_labels'].tolist() == two_steps['gt_bboxes_labels'].tolist()
    difference = np.abs(ours['img'].astype(int) - two_steps['img'])
    assert np.median(difference) <= 3 and (difference > 30).mean() < 0.06  # seams


def _skip_first(uniform):
    """Skip the first draw of mmdet, which decides whether to create a mosaic."""
    calls = []

    def draw(*args, **kwargs):
        calls.append(1)
        return 0.0 if len(calls) == 1 else uniform(*args, **kwargs)
    return draw


def test_every_pixel_of_an_upright_mosaic_comes_from_an_image_or_is_gray():
    parts = [dict(make_sample(64, 64, i), img=np.full((64, 64, 3), 200 + i, np.uint8)) for i in range(4)]
    for seed in range(5):
        np.random.seed(seed)
        out = MosaicAffine(64, translate=0.1, scale=0.5).transform(dict(parts[0], mix_results=parts[1:]))['img']
        assert set(np.unique(out)) <= {114, 200, 201, 202, 203} and len(np.unique(out)) > 1


def test_draws_three_more_images():
    assert all(0 <= i < 7 for i in MosaicAffine().get_indexes(range(7))) and len(MosaicAffine().get_indexes([1])) == 3


def test_images_without_boxes():
    parts = [make_sample(40, 40, i, boxes=0) for i in range(4)]
    out = MosaicAffine(32).transform(dict(parts[0], mix_results=parts[1:]))
    assert out['gt_bboxes'].tensor.shape == (0, 4) and len(out['gt_bboxes_labels']) == 0


def test_identity_changes_nothing():
    results = make_sample(40, 60, 0)
    expected, boxes = results['img'].copy(), results['gt_bboxes'].tensor.clone()
    out = CenteredRandomAffine(translate=0, scale=0).transform(results)
    assert np.array_equal(out['img'], expected)
    torch.testing.assert_close(out['gt_bboxes'].tensor, boxes)


def test_scaling_keeps_the_center():
    results = make_sample(40, 60, 0, boxes=0)
    results['gt_bboxes'] = HorizontalBoxes(torch.tensor([[25.0, 15, 35, 25]]))
    results.update(gt_bboxes_labels=np.zeros(1, int), gt_ignore_flags=np.zeros(1, bool))
    for seed in range(5):
        np.random.seed(seed)
        out = CenteredRandomAffine(translate=0, scale=0.5).transform(dict(results))['gt_bboxes'].tensor[0]
        assert ((out[:2] + out[2:]) / 2).tolist() == pytest.approx([30, 20], abs=1e-3)
        assert 5 <= out[2] - out[0] <= 15


@settings(max_examples=50)
@given(st.lists(st.tuples(*[st.floats(0, 90)] * 4), max_size=6), st.floats(0.3, 2), st.floats(-40, 40))
def test_kept_boxes_pass_the_filter(raw, scale, shift):
    boxes = np.array([(min(a, c), min(b, d), max(a, c) + 1, max(b, d) + 1) for a, b, c, d in raw]).reshape(-1, 4)
    matrix = np.array([[scale, 0, shift], [0, scale, shift], [0, 0, 1]])
    new, keep = transform_boxes(boxes, matrix, scale, (64, 48))
    for old, box, kept in zip(boxes, new, keep):
        x1, y1, x2, y2 = (old * scale + shift).clip(0, np.tile([64, 48], 2))
        assert box.tolist() == pytest.approx([x1, y1, x2, y2], abs=1e-6)
        w, h = x2 - x1, y2 - y1
        share = w * h / ((old[2:] - old[:2]).prod() * scale ** 2)
        assert kept == (w > 2 and h > 2 and max(w / h, h / w) < 100 and share > 0.1)


def test_mixup_of_two_images():
    one, two = (dict(make_sample(32, 32, i), img=np.full((32, 32, 3), value, np.uint8))
                for i, value in ((0, 0), (1, 200)))
    np.random.seed(0)
    out = MosaicMixUp(prob=1.0).transform(dict(one, mix_results=[two]))
    assert 60 < out['img'].mean() < 140 and out['img'].std() == 0
    assert torch.equal(out['gt_bboxes'].tensor, torch.cat((one['gt_bboxes'].tensor, two['gt_bboxes'].tensor)))
    assert len(out['gt_bboxes_labels']) == len(out['gt_ignore_flags']) == 6


def test_mixup_has_its_probability_and_loads_nothing_otherwise():
    np.random.seed(0)
    drawn = [len(MosaicMixUp(prob=0.3).get_indexes(range(5))) for _ in range(500)]
    assert set(drawn) == {0, 1} and 0.22 < np.mean(drawn) < 0.38
    one = make_sample(8, 8, 0)
    assert MosaicMixUp().transform(dict(one, mix_results=[]))['img'] is one['img']


def test_hue_saturation_and_value_are_multiplied():
    img = cv2.cvtColor(np.array([[[90, 100, 120], [10, 200, 250], [170, 0, 0]]], np.uint8), cv2.COLOR_HSV2BGR)
    transform = MultiplicativeHSV()
    transform._draw = lambda: np.array([1.1, 0.5, 1.2])
    hsv = cv2.cvtColor(transform.transform(dict(img=img))['img'], cv2.COLOR_BGR2HSV)[0].astype(int)
    assert np.abs(hsv[0] - [99, 50, 144]).max() <= 2
    assert np.abs(hsv[1] - [11, 100, 255]).max() <= 2
    assert hsv[2].tolist() == [0, 0, 0]  # black stays black


def test_factors_are_within_the_gains():
    np.random.seed(0)
    transform = MultiplicativeHSV()
    factors = np.array([transform._draw() for _ in range(300)])
    assert (np.abs(factors - 1) <= [0.015, 0.7, 0.4]).all() and factors.std(0).min() > 0.005


def test_former_names_in_configs_still_work():
    affine = TRANSFORMS.build(dict(type='CentredRandomAffine', scale=0.1))
    assert type(affine) is type(TRANSFORMS.build(dict(type='CenteredRandomAffine'))) is CenteredRandomAffine
    assert MosaicAffine(centre=(1.0, 1.0)).center == MosaicAffine(center=(1.0, 1.0)).center  # language: ok


@pytest.mark.parametrize(('name', 'value'), [
    ('MultiplicativeHSV', dict(hue=-1)), ('MosaicAffine', dict(img_size=0)), ('CenteredRandomAffine', dict(scale=1.5)),
    ('LetterBox', dict(fill=300)), ('MosaicMixUp', dict(prob=2)),
    ('MosaicMixUp', dict(beta=0)), ('MosaicAffine', dict(degrees='a')), ('MosaicAffine', dict(shear=-1)),
    ('MosaicAffine', dict(translate=2)), ('MosaicAffine', dict(min_area=None)),
    ('CenteredRandomAffine', dict(border=0)), ('CenteredRandomAffine', dict(max_aspect=0)),
    ('LoadResizedImage', dict(cache_mb=-1))])
def test_invalid_arguments_are_an_error(name, value):
    (key, given), = value.items()
    with pytest.raises(UserError, match=f'^{key}={given!r} must be'):
        TRANSFORMS.build(dict(type=name, **value))
