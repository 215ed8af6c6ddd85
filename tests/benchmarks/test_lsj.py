"""The column "difference" of the LSJ rows has to report wrong transforms."""

import pytest

from benchmarks import lsj


@pytest.fixture(scope='module')
def infos(tmp_path_factory):
    return lsj.photographs(tmp_path_factory.mktemp('photographs'), 3)


DRAWS = [(False, 0.4, 0.3), (True, 1.3, 0.6), (False, 1.9, 0.9)]


def _without(key):
    """Return a transform that leaves out the last object of one field."""
    def change(results):
        results[key] = results[key][[*range(len(results[key]) - 1), 0]]
        return results
    return change


def _brighter(results):
    results['img'] = results['img'].clip(max=252) + 3
    return results


def _moved(results):
    results['gt_bboxes'].tensor.add_(0.2)
    return results


@pytest.mark.parametrize('polygons', [True, False])
def test_equal_transforms_are_within_the_tolerance(infos, polygons):
    assert lsj.measure_difference(infos, DRAWS, polygons, 'cv2') <= 1


@pytest.mark.parametrize('polygons', [True, False])
@pytest.mark.parametrize('fault', [_brighter, _without('gt_masks')])
def test_a_wrong_image_or_mask_is_reported(infos, polygons, fault):
    assert lsj.measure_difference(infos, DRAWS, polygons, 'cv2',
                                  lambda *args: [*lsj._our_chain(*args), fault]) > 1


def test_wrong_boxes_are_reported(infos):
    assert lsj.measure_difference(infos, DRAWS, True, 'cv2', lambda *args: [*lsj._our_chain(*args), _moved]) > 1


def test_another_window_is_reported(infos):
    assert lsj.measure_difference(infos, DRAWS, True, 'cv2',
                                  lambda draw, backend: lsj._our_chain((*draw[:2], draw[2] / 2), backend)) > 1
