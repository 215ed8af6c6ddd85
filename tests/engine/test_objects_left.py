"""A training set in which every object is ignored is refused when it is loaded."""

import contextlib
import io
import json

import pytest
from mmdet.registry import DATASETS
from mmengine.registry import init_default_scope

from vitdet_plugin.engine.objects_left import require_objects
from vitdet_plugin.errors import UserError

WITH_MASKS = [dict(type='LoadAnnotations', with_bbox=True, with_mask=True)]


@pytest.fixture
def build(tiny_set, tmp_path):
    """Return a function that builds a data set whose annotations have other values."""
    def build(pipeline=(), wrapper=None, test_mode=False, **changes):
        init_default_scope('mmdet')
        content = json.loads((tiny_set / 'coco.json').read_text())
        for annotation in content['annotations']:
            annotation.update(changes)
        (tmp_path / 'a.json').write_text(json.dumps(content))
        cfg = dict(type='CocoDataset', ann_file=str(tmp_path / 'a.json'), pipeline=list(pipeline), test_mode=test_mode,
                   data_prefix=dict(img=''), metainfo=dict(classes=('apple', 'lime', 'plum')))
        with contextlib.redirect_stdout(io.StringIO()):
            return DATASETS.build(dict(wrapper, dataset=cfg) if wrapper else cfg)
    return build


def test_sets_with_objects_pass(build):
    require_objects(build())
    require_objects(build(WITH_MASKS))
    require_objects(build(segmentation=[]))  # boxes only
    require_objects(build(test_mode=True, iscrowd=1))
    require_objects(build(iscrowd='0'))


@pytest.mark.parametrize('wrapper', [None, dict(type='RepeatDataset', times=2)])
@pytest.mark.parametrize('pipeline, changes', [((), dict(iscrowd=1)), ((), dict(iscrowd='true')),
                                               (WITH_MASKS, dict(segmentation=[[]])),
                                               (WITH_MASKS, dict(segmentation=None))])
def test_sets_without_objects_are_refused(build, wrapper, pipeline, changes):
    with pytest.raises(UserError, match=r'a.json: nothing is left to train on: each of the \d+ objects is a crowd'):
        require_objects(build(pipeline, wrapper, **changes))


def test_other_data_sets_are_skipped():
    require_objects([1, 2])
