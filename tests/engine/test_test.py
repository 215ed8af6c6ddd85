import pytest

from vitdet_plugin.engine.test import TestOptions, apply_test_options, use_flip_tta
from vitdet_plugin.errors import UserError


def test_training_parts_are_dropped(tiny_config):
    apply_test_options(tiny_config, 'weights.pth', TestOptions())
    assert tiny_config.load_from == 'weights.pth'
    assert tiny_config.train_dataloader is tiny_config.optim_wrapper is tiny_config.val_evaluator is None
    assert tiny_config.test_evaluator.metric == ['bbox', 'segm']


@pytest.mark.parametrize('changes, says', [
    (dict(eval=['mask']), '--eval mask: choose from bbox, segm'), (dict(out='found.txt'), '.pkl'),
    (dict(out='found.txt', out_item='metrics'), 'metrics are written as .json, .yaml or .pkl'),
    (dict(out='found.csv', out_item='pred'), 'write .pkl'), (dict(out_item='pred'), 'give --out FILE as well'),
    (dict(out='a.json', out_item='metric'), '--out-item metric: choose from metrics, pred'),
    (dict(out='a.json', out_item='metrics', format_only=True), 'computes no metrics')])
def test_errors_are_one_line(tiny_config, changes, says):
    with pytest.raises(UserError, match=says):
        apply_test_options(tiny_config, 'weights.pth', TestOptions(**changes))


def test_a_config_without_a_test_split(tiny_config):
    tiny_config.test_dataloader = None
    with pytest.raises(UserError, match='has no test_dataloader and test_evaluator'):
        apply_test_options(tiny_config, 'weights.pth', TestOptions())


def test_formatting_for_a_server(tiny_config, tmp_path):
    apply_test_options(tiny_config, 'weights.pth', TestOptions(format_only=True, out=str(tmp_path / 'new' / 'r.json')))
    assert tiny_config.test_evaluator.format_only and tiny_config.test_evaluator.outfile_prefix == str(
        tmp_path / 'new' / 'r')
    tiny_config.test_evaluator = dict(type='VOCMetric')
    with pytest.raises(UserError, match='CocoMetric'):
        apply_test_options(tiny_config, 'weights.pth', TestOptions(format_only=True))


def test_show_dir_adds_a_hook(tiny_config):
    apply_test_options(tiny_config, 'weights.pth', TestOptions(show_dir='out'))
    assert tiny_config.custom_hooks[-1]['type'] == 'PredictionImageHook'


def test_flip_goes_before_padding_and_packing(tiny_config):
    pipeline = tiny_config.test_dataloader.dataset.pipeline
    pipeline.insert(2, dict(type='Pad', size=(64, 64)))
    use_flip_tta(tiny_config)
    kinds = [step['type'] for step in tiny_config.test_dataloader.dataset.pipeline]
    assert kinds == ['LoadImageFromFile', 'Resize', 'TestTimeAug']
    flips, pad, pack = tiny_config.test_dataloader.dataset.pipeline[-1]['transforms']
    assert [flip['prob'] for flip in flips] == [0.0, 1.0]
    assert pad[0]['type'] == 'Pad' and 'flip_direction' in pack[0]['meta_keys']
    assert tiny_config.tta_model.nms.iou_threshold == 0.7 and tiny_config.tta_model.max_per_img == 10


def test_flips_with_a_model_of_mmdet_that_merges_no_masks(tiny_config):
    tiny_config.tta_model = dict(type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5)))
    with pytest.raises(UserError, match='tta_model=DetTTAModel of mmdet does not support masks'):
        use_flip_tta(tiny_config)
    tiny_config.model.roi_head.mask_head = tiny_config.model.roi_head.mask_roi_extractor = None
    use_flip_tta(tiny_config)
    assert tiny_config.tta_model.type == 'DetTTAModel'
