"""Orders of transforms that mmdet runs although boxes and images then disagree."""

import pytest
from mmengine.config import Config

from vitdet_plugin.datasets.checks.pipelines import check_pipelines

LOAD, ANNOTATIONS = dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)
RESIZE, FLIP, PACK = dict(type='Resize', scale=(64, 64)), dict(type='RandomFlip', prob=0.5), dict(type='PackDetInputs')


def texts(split, *steps, evaluator='CocoMetric', **model):
    loader = dict(dataset=dict(type='RepeatDataset', dataset=dict(type='CocoDataset', pipeline=[*steps])))
    cfg = Config({'model': dict(type='RetinaNet', **model), f'{split}_dataloader': loader,
                  f'{split}_evaluator': dict(type=evaluator), 'default_scope': 'mmdet'})
    return [each.text.removeprefix(f'{split}_dataloader.dataset.dataset.pipeline: ')
            for each in check_pipelines(cfg, [split])]


def test_boxes_are_loaded_before_a_training_image_is_changed():
    assert texts('train', LOAD, ANNOTATIONS, RESIZE, FLIP, PACK) == []
    assert texts('train', LOAD, dict(RESIZE, prob=0), ANNOTATIONS, PACK) == []
    (text,) = texts('train', LOAD, RESIZE, ANNOTATIONS, PACK)
    assert text.startswith('LoadAnnotations after Resize: boxes and masks stay those of the original image')
    nested = dict(type='RandomApply', transforms=[dict(type='mmdet.LargeScaleJitter')])
    assert 'after LargeScaleJitter' in texts('train', LOAD, nested, ANNOTATIONS, PACK)[0]
    assert texts('train', LOAD, dict(type='PhotoMetricDistortion'), dict(type='ColorJitter'), ANNOTATIONS, PACK) == []


@pytest.mark.parametrize('step', ['RandomFlip', 'CenterCrop', 'mmcv.RandomCrop', 'RandomAffine'])
def test_evaluated_images_are_not_moved(step):
    (text,) = texts('val', LOAD, RESIZE, dict(type=step), ANNOTATIONS, PACK)
    assert text.startswith(f'{step.rpartition(".")[2]}: detections are not mapped back')
    padded = dict(type='RandomCenterCropPad', test_mode=True)  # of CornerNet
    assert texts('val', LOAD, padded, PACK) == []
    views = dict(type='TestTimeAug', transforms=[[RESIZE], [FLIP]])
    assert texts('test', LOAD, views, PACK) == [] and texts('test', LOAD, dict(FLIP, prob=0.0), RESIZE, PACK) == []


def test_metrics_that_compare_with_loaded_boxes():
    assert texts('val', LOAD, RESIZE, ANNOTATIONS, PACK, evaluator='VOCMetric') == []
    (text,) = texts('val', LOAD, ANNOTATIONS, RESIZE, PACK, evaluator='VOCMetric')
    assert 'before Resize: VOCMetric compares' in text
    assert "add dict(type='LoadAnnotations'" in texts('test', LOAD, RESIZE, PACK, evaluator='mmdet.OpenImagesMetric')[0]
    assert texts('val', LOAD, ANNOTATIONS, RESIZE, PACK) == []


def test_keys_that_a_detector_reads():
    packing = dict(PACK, meta_keys=('img_path', 'ori_shape', 'img_shape'))
    assert texts('val', LOAD, RESIZE, packing) == ['PackDetInputs.meta_keys lacks scale_factor, img_id; add them']
    assert texts('val', LOAD, packing, evaluator='VOCMetric')[1:] == []
    assert texts('train', LOAD, packing) == []


def test_images_are_normalized_once():
    steps, normalize = [LOAD, ANNOTATIONS, PACK], dict(type='mmcv.Normalize', mean=[1], std=[1])
    (text,) = texts('train', *steps[:2], normalize, PACK, data_preprocessor=dict(mean=[1.0]))
    assert text.startswith('Normalize, but data_preprocessor has a mean')
    assert texts('train', *steps[:2], normalize, PACK, data_preprocessor=dict(mean=None)) == []
    assert texts('train', *steps, data_preprocessor=dict(mean=[1.0])) == []
