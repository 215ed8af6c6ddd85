"""Detectors on LVIS, Objects365, OpenImages, Pascal VOC and CrowdHuman: recipes, and a step on each set's own files."""

import copy

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.registry import DATA_SAMPLERS, DATASETS, init_default_scope

from tests.configs import other_sets
from tests.configs.loading import CONFIGS, built, groups_of, heads_of, load
from tests.configs.shrinking import shrink_pipeline
from vitdet_plugin.checkpoints.published import find_published
from vitdet_plugin.config.loading import load_config
from vitdet_plugin.errors import UserError

CB = 'dino/dino_cb-internimage-h_4scale_objects365_'
# classes, iterations, rate, iterations between evaluations
FINE_TUNED = {'coco': (80, 20_000, 1e-4, 200), 'lvis': (1203, 80_000, 1e-4, 500),
              'openimages': (601, 100_000, 1e-4, 2000), 'voc0712': (20, 20_000, 5e-5, 500)}
# of each config: how its set is written, and results of detections that equal the truth
SETS = {
    f'{CB}lvis': (other_sets.write_lvis, {'lvis/bbox_mAP': 1, 'lvis/bbox_mAP_f': 1}),
    f'{CB}openimages': (other_sets.write_openimages, {'openimages/mAP': 1}),
    f'{CB}voc0712': (other_sets.write_voc, {'pascal_voc/mAP': 1}),
    'dino/dino_internimage-l_4scale_1x_objects365': (other_sets.write_objects365, {'coco/bbox_mAP': 1}),
    # the area below the curve starts at its first point, the highest of 8 detections
    'internimage/cascade-rcnn_internimage-xl_fpn_3x_crowdhuman': (
        other_sets.write_crowdhuman, {'crowd_human/mAP': 7 / 8, 'crowd_human/mMR': 0, 'crowd_human/JI': 1})}


@pytest.mark.parametrize('data', FINE_TUNED)
def test_recipe_of_the_composite(data):
    classes, iterations, rate, interval = FINE_TUNED[data]
    cfg, model = load(CB + data), built(CB + data)
    assert (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval) == (iterations, interval)
    assert cfg.default_hooks.checkpoint.interval == interval and cfg.train_dataloader.batch_size == 1
    assert cfg.load_from == 'dino_cb-internimage-h_4scale_objects365-80classes'
    assert model.bbox_head.num_classes == classes and model.dn_query_generator.num_dn_queries == 1000
    groups = {name: group for group in groups_of(cfg, model) for name in group['param_names']}
    assert groups['query_embedding.weight']['lr'] == rate
    assert groups['encoder.layers.0.self_attn.sampling_offsets.weight']['lr'] == pytest.approx(1e-3 * rate)
    assert groups['level_embed']['lr'] == pytest.approx(rate * 0.94 ** 51)
    assert cfg.optim_wrapper.optimizer.weight_decay == 1e-4 and cfg.optim_wrapper.clip_grad.max_norm == 0.1
    train = [step for _, each in leaves(cfg.train_dataloader.dataset) for step in each.pipeline]
    highest = 1800 if data == 'coco' else 1200
    assert {step.scale[1] for step in train if step.type == 'RandomResize'} == {(2000, highest)}
    assert find_published((CB + data).removeprefix('dino/')) is not None


def leaves(dataset):
    from vitdet_plugin.config.dataset_config import leaf_datasets
    return leaf_datasets(dataset, '')


def test_recipe_on_crowdhuman():
    cfg = load('internimage/cascade-rcnn_internimage-xl_fpn_3x_crowdhuman')
    groups = groups_of(cfg, built('internimage/cascade-rcnn_internimage-xl_fpn_3x_crowdhuman'))
    assert cfg.train_cfg.max_iters == 36 * 15_000 // 128 and cfg.auto_scale_lr.base_batch_size == 128
    assert cfg.param_scheduler[1].milestones == [27 * 15_000 // 128, 33 * 15_000 // 128]
    assert min(group['lr'] for group in groups) == pytest.approx(1e-4 * 0.94 ** 40)
    assert cfg.optim_wrapper.optimizer.weight_decay == 1e-4 and 'clip_grad' not in cfg.optim_wrapper


@pytest.mark.parametrize(('name', 'classes'), [(f'{CB}lvis', 1203), (f'{CB}openimages', 601), (f'{CB}voc0712', 20),
                                               ('dino/dino_internimage-l_4scale_1x_objects365', 365)])
def test_heads_have_the_official_classes(name, classes):
    model = built(name)
    assert {each.weight.shape for each in model.bbox_head.cls_branches} == {(classes, 256)}
    assert model.dn_query_generator.label_embedding.weight.shape == (classes, 256)
    assert model.query_embedding.weight.device.type == 'meta'


@pytest.mark.parametrize('name', SETS)
def test_a_step_and_an_evaluation_on_the_files_of_the_set(name, tmp_path, monkeypatch):
    write, expected = SETS[name]
    write(tmp_path)
    monkeypatch.setenv('VITDET_DATA', str(tmp_path))
    cfg = shrunk(name)
    from mmdet.registry import MODELS
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    if hasattr(model, 'level_embed'):  # uninitialized memory until init_weights
        torch.nn.init.normal_(model.level_embed)
    data = DATASETS.build(cfg.train_dataloader.dataset)
    sampler = DATA_SAMPLERS.build(cfg.train_dataloader.sampler, default_args=dict(dataset=data, seed=0))
    first = [index for index, _ in zip(sampler, range(2))]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = model(**model.data_preprocessor(pseudo_collate([data[i] for i in first]), True), mode='loss')
    total = model.parse_losses(losses)[0]
    total.backward()
    optimizer.step()
    assert total.isfinite() and all(each.num_classes == len(data.metainfo['classes']) for each in heads_of(cfg, model))
    tested = DATASETS.build(cfg.val_dataloader.dataset)
    assert len(tested) == other_sets.IMAGES
    found = {False: [], True: []}  # detections of the model; the truth
    for index in range(len(tested)):
        batch = pseudo_collate([tested[index]])
        truth = copy.deepcopy(batch['data_samples'][0])
        with torch.no_grad():
            result = model.eval().test_step(batch)[0]
        found[False].append(result)
        perfect = copy.deepcopy(result)
        instances = truth.gt_instances
        perfect.pred_instances = result.pred_instances.new(
            bboxes=torch.as_tensor(getattr(instances.bboxes, 'tensor', instances.bboxes)), labels=instances.labels,
            scores=torch.ones(len(instances)))
        found[True].append(perfect)
    for is_truth, results in found.items():
        evaluator = Evaluator(copy.deepcopy(cfg.val_evaluator))
        evaluator.dataset_meta = tested.metainfo
        evaluator.process(results, None)
        scores = evaluator.evaluate(len(tested))
        assert set(expected) <= set(scores)
        if is_truth:
            assert {key: scores[key] for key in expected} == pytest.approx(expected, abs=1e-3)


def shrunk(name: str):
    """Return a config for small images, with a model of less than 1 M parameters and the official classes."""
    cfg = load_config(str(CONFIGS / f'{name}.py'))
    init_default_scope('mmdet')
    import mmdet.models  # noqa: F401
    model, width, arch = cfg.model, 16, dict(channels=16, depths=(1, 1, 1, 1), groups=(1, 2, 4, 8))
    backbone = model.backbone.get('backbone', model.backbone)
    backbone.update(arch=arch, init_cfg=None, with_cp=False)
    if 'roi_head' in model:
        model.neck.update(in_channels=[16, 32, 64, 128], out_channels=width)
        model.rpn_head.update(in_channels=width, feat_channels=width)
        for head in model.roi_head.bbox_head:
            head.update(in_channels=width, fc_out_channels=32)
        model.roi_head.bbox_roi_extractor.out_channels = width
        cfg.val_evaluator.num_ji_process = 1
    else:
        model.neck.update(in_channels=[32, 64, 128], out_channels=width, norm_cfg=dict(type='GN', num_groups=4))
        model.num_queries, model.test_cfg.max_per_img = 20, 20
        model.dn_cfg.group_cfg.num_dn_queries = 10
        for part in (model.encoder, model.decoder):
            part.num_layers = 1
            part.layer_cfg.ffn_cfg.update(embed_dims=width, feedforward_channels=32)
            part.layer_cfg.self_attn_cfg.embed_dims = width
        model.decoder.layer_cfg.cross_attn_cfg.embed_dims = width
        model.positional_encoding.num_feats = width // 2
        model.bbox_head.embed_dims = width
    for split in ('train', 'val'):
        for _, dataset in leaves(cfg[f'{split}_dataloader'].dataset):
            shrink_pipeline(dataset.pipeline, (96, 96), (48, 60))
    return cfg


def test_other_class_descriptions_of_openimages_are_one_clear_error(tmp_path, monkeypatch):
    other_sets.write_openimages(tmp_path)
    monkeypatch.setenv('VITDET_DATA', str(tmp_path))
    file = tmp_path / 'OpenImages/annotations/class-descriptions-boxable.csv'
    rows = file.read_text().splitlines(keepends=True)
    file.write_text(''.join(rows[:4] + rows[5:]))
    cfg = shrunk(f'{CB}openimages')
    with pytest.raises(UserError, match='has 600 classes, 601 are required; they differ from row 5 on'):
        DATASETS.build(cfg.val_dataloader.dataset)
