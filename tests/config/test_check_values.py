"""Values of the keys that a runner reads: one line with the key, the value and what to set, in place of a traceback."""

import copy
import inspect

import pytest
from mmengine.config import Config

from vitdet_plugin.config.check_values import check_values
from vitdet_plugin.config.options import apply_options, parse_options
from vitdet_plugin.errors import UserError

LEVELS = 'CRITICAL, ERROR, WARNING, INFO or DEBUG'


def config():
    loader = dict(batch_size=1, dataset=dict(type='CocoDataset'), sampler=dict(type='DefaultSampler', shuffle=True))
    return Config(dict(
        model=dict(type='MaskRCNN', backbone=dict(type='ViTDet')), train_dataloader=loader, log_level='INFO',
        custom_hooks=[dict(type='EMAHook')], default_hooks=dict(timer=dict(type='IterTimerHook'), sampler_seed=None),
        env_cfg=dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0)),
        param_scheduler=[dict(type='LinearLR')], val_evaluator=dict(type='CocoMetric'), randomness=dict(seed=0),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW')), default_scope='mmdet'))


def test_a_usual_config_and_its_usual_changes_pass():
    cfg = config()
    check_values(cfg)
    apply_options(cfg, parse_options(['log_level=WARN', 'default_hooks.timer=None', 'custom_hooks=[]', 'sync_bn=torch',
                                      'param_scheduler=None', 'compile=True', 'randomness.deterministic=True']))
    check_values(cfg)


@pytest.mark.parametrize(('option', 'line'), [
    ('log_level=foo', f"log_level is 'foo'; set {LEVELS}"),
    ('log_level=WARNIN', f"log_level is 'WARNIN'; set {LEVELS} (did you mean WARNING?)"),
    ('env_cfg.mp_cfg.mp_start_method=forc', "is 'forc'; set fork, spawn or forkserver (did you mean fork"),
    ('env_cfg.mp_cfg=a', "env_cfg.mp_cfg is 'a'; set a section with keys"),
    ('randomness.seed=-1', 'randomness.seed is -1; set a whole number from 0 to 4294967295'),
    ('resume=a.pth', "resume is 'a.pth'; set True or False; name the checkpoint with --resume FILE"),
    ('train_dataloader.dataset.metainfo=[a]', "train_dataloader.dataset.metainfo is ['a']; set a section: dict("),
    ('val_evaluator.metric=foo', "val_evaluator.metric is 'foo'; set one or several of ['bbox', 'segm', "),
    ('val_evaluator.metric=proposal_fast', "is 'proposal_fast'; set one or several of ['bbox', 'segm', 'proposal']"),
    ('val_evaluator.metric=[]', 'val_evaluator.metric is []; set one or several of '),
    ('val_dataloader.dataset=dict(type=CocoDataset,pipeline=x)', "val_dataloader.dataset.pipeline is 'x'; set a list"),
    ('load_from=', "load_from is ''; set a checkpoint file, or None"),
    ('model.test_cfg=dict(rcnn=[dict(score_thr=nan)])', 'model.test_cfg.rcnn.0.score_thr is nan; set a number'),
    ('custom_hooks=[a]', "custom_hooks[0] is 'a'; set a section with a type"),
    ('custom_hooks=a', "custom_hooks is 'a'; set a list of sections ([dict(type=…)])"),
    ('default_hooks=[a]', "default_hooks is ['a']; set a section with keys"),
    ('default_hooks.checkpoint=a', "default_hooks.checkpoint is 'a'; set a section with a type, or None"),
    ('param_scheduler=[a]', "param_scheduler[0] is 'a'; set a section with a type"),
    ('test_evaluator=[a]', "test_evaluator[0] is 'a'; set a section with a type"),
    ('default_scope=foo', "default_scope is 'foo'; set mmdet or mmpretrain"),
    ('default_scope=3', 'default_scope is 3; set mmdet or mmpretrain'),
    ('train_dataloader.collate_fn=a', "train_dataloader.collate_fn is 'a'; set a section with a type"),
    ('train_dataloader.batch_sampler=a', "train_dataloader.batch_sampler is 'a'; set a section with a type"),
    ('randomness.deterministic=foo', "randomness.deterministic is 'foo'; set True or False"),
    ('sync_bn=foo', "sync_bn is 'foo'; set torch or mmcv"), ('compile=foo', "compile is 'foo'; set True, False or")])
def test_faults(option, line):
    cfg = config()
    with pytest.raises(UserError) as raised:
        apply_options(cfg, parse_options([option]))
        check_values(cfg)
    assert line in str(raised.value) and '\n' not in str(raised.value)


@pytest.mark.parametrize(('key', 'section', 'line'), [
    ('model.backbone', dict(type='InternImage', layer_scale='a'), "layer_scale is 'a'; set a number, True or False or"),
    ('model.backbone', dict(type='VOLO', outlook=3), 'outlook is 3; set a section with keys or None'),
    ('model.backbone', dict(type='VOLO', outlook_attention=(1.5,)), 'is (1.5,); set a list of True or False'),
    ('model.neck', dict(type='SimpleFeaturePyramid', num_outs='a'), "num_outs is 'a'; set a whole number or None"),
    ('model.bbox_head', dict(type='YOLOv5Head', in_channels=8), 'in_channels is 8; set a list of whole numbers'),
    ('custom_hooks', [dict(type='PatienceHook', patience='3')], "custom_hooks.0.patience is '3'; set a whole number"),
    ('val_evaluator', dict(type='ClassMeans', items=0), 'val_evaluator.items is 0; set a list of strings'),
    ('train_pipeline', [dict(type='LargeScaleJitter', scale=(1,))], 'is (1,); set a list of 2 numbers'),
    ('train_pipeline', [dict(type='MosaicAffine', center=None)], 'is None; set a list of 2 numbers'),
    ('strategy', dict(type='BlockFSDPStrategy', cpu_offload='yes'), "cpu_offload is 'yes'; set True or False")])
def test_arguments_of_the_classes_of_this_package(key, section, line):
    cfg = config()
    cfg.merge_from_dict({key: section}, allow_list_keys=False)
    with pytest.raises(UserError) as raised:
        check_values(cfg)
    assert line in str(raised.value) and f'config: {key}.' in str(raised.value) and '\n' not in str(raised.value)


def test_objects_and_other_packages_are_not_checked():
    cfg = config()
    cfg.model.backbone = dict(type='ResNet', depth='fifty', frozen_stages=object())
    cfg.model.neck = dict(type=object, in_channels=object())
    check_values(cfg)


def test_annotations_can_be_read_and_fit_their_defaults():
    import vitdet_plugin
    from vitdet_plugin.config.check_arguments import _annotations, wrong_arguments
    from vitdet_plugin.config.registry import all_registries
    vitdet_plugin.register_all()
    kinds = {kind for registry in all_registries() for kind in registry.module_dict.values()}
    count = 0
    for kind in kinds:
        defaults = {name: copy.copy(default) for name, (_, default) in _annotations(kind).items()
                    if default is not inspect.Parameter.empty and default is not None}
        assert not [*wrong_arguments(dict(type=kind, **defaults))], kind
        count += bool(defaults)
    assert count > 40


def test_arguments_of_a_subclass_of_the_user_are_not_checked():
    from vitdet_plugin.backbones.vitdet import ViTDet
    from vitdet_plugin.config.check_arguments import wrong_arguments

    class Mine(ViTDet):
        def __init__(self, img_size: str = '1024x1024', **others):
            super().__init__(img_size=int(img_size.partition('x')[0]), **others)

    assert [name for name, *_ in wrong_arguments(dict(type=ViTDet, img_size='64x64', window_size='x'))] == \
        ['img_size', 'window_size']
    assert [name for name, *_ in wrong_arguments(dict(type=Mine, img_size='64x64', window_size='x'))] == ['window_size']


@pytest.mark.parametrize('kind', ['CocoMetric', 'FastCocoMetric', 'FastLVISMetric'])
def test_metrics_of_coco_evaluators(kind):
    cfg = config()
    cfg.val_evaluator = dict(type=kind, metric='mAP')
    with pytest.raises(UserError, match=r"val_evaluator.metric is 'mAP'; set one or several of \['bbox'"):
        check_values(cfg)


def test_sections_without_a_type():
    cfg = config()
    cfg.model = {}
    with pytest.raises(UserError, match='model is {}; set a section with a type'):
        check_values(cfg)


def test_sections_that_are_none_have_the_default_of_mmengine():
    cfg = config()
    cfg.env_cfg = cfg.log_level = cfg.randomness = None
    check_values(cfg)
    assert not {'env_cfg', 'log_level', 'randomness'} & set(cfg)


@pytest.mark.parametrize('hooks', [dict(custom_hooks=[dict(type='os.system')]),
                                   dict(default_hooks=dict(timer=dict(type='os.system')))])
def test_types_that_are_not_hooks(hooks):
    with pytest.raises(UserError, match=r"_hooks(\[0\]|.timer).type is 'os.system'; set the name of a hook"):
        check_values(Config(hooks))
    check_values(Config(dict(custom_hooks=[dict(type='mmengine.EMAHook'), dict(type='nothing.Here')])))


@pytest.mark.parametrize(('generator', 'line'), [
    (dict(scales=[]), r'scales is \[\]; set one or several numbers above 0'), (dict(scales=[-1]), r'scales is \[-1\]'),
    (dict(ratios=[[1.0, 0.0]]), 'ratios is'), (dict(strides=0), 'strides is 0'),
    (dict(base_sizes=[[(0, 8)]]), 'base_sizes is')])
def test_anchors(generator, line):
    cfg = config()
    cfg.model.rpn_head = dict(anchor_generator=dict(type='AnchorGenerator', scales=[8], ratios=[0.5, 1.0]))
    check_values(cfg)
    cfg.model.rpn_head.anchor_generator.update(generator)
    with pytest.raises(UserError, match=f'config: model.rpn_head.anchor_generator.{line}'):
        check_values(cfg)


@pytest.mark.parametrize(('option', 'kind'), [
    ('model.backbone=a', 'ViTDet'), ('train_dataloader.sampler=3', 'DefaultSampler'), ('model.backbone=[a]', 'ViTDet'),
    ('optim_wrapper.optimizer=SGD', 'AdamW'), ('default_hooks.timer=a', 'IterTimerHook')])
def test_text_in_place_of_a_section(option, kind):
    with pytest.raises(UserError, match=f'the config has a section of type {kind} here; set its keys, such as'):
        apply_options(config(), parse_options([option]))
