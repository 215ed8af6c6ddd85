"""The short config that ``vitdet init`` writes: knobs, files, classes, and what follows from them."""

from __future__ import annotations

from pathlib import Path

from vitdet_plugin.compat.config_format import literal_braces
from vitdet_plugin.datasets.own_data.plan import Plan

MOST_LINES = 25
TEMPLATES = 'vitdet_plugin::_base_/own_data'
RUN = 'run'  # work directory, below the folder of the config
# at most a fifth of the training, however short that is
_WARM_UP = ('warmup = min(_base_.warmup, max(1, max_iters // 5)); param_scheduler = ['
            'dict(_base_.param_scheduler[0], end=warmup), dict(_base_.param_scheduler[1], begin=warmup)]')
_UNSAFE = ("'", '"', '\\', '{', '}', '\n')  # in a path: the text of a config is filled in as it is


def config_text(plan: Plan, out: Path, images: Path, about: str) -> str:
    """Return the config of a plan.

    Args:
        plan: The decisions.
        out: Folder of the config, absolute.
        images: Folder that the names of the images are relative to, absolute.
        about: First line, without a comment sign.
    """
    template = f'{plan.model.template}{"_fine" if plan.size.fine else ""}.py'
    safe = not any(sign in str(out) for sign in _UNSAFE)
    folder = "'{{ fileDirname }}/'" if safe else _literal(f'{out}/')  # the folder may be moved
    files = _literal(f'{images}/')
    if images.is_relative_to(out) and safe:
        files = repr(f'{{{{ fileDirname }}}}/{images.relative_to(out)}/')
    unit = 'max_epochs' if plan.model.kind == 'classifier' else 'max_iters'
    length = plan.epochs if unit == 'max_epochs' else plan.steps
    words = ('epochs, each over all training images' if unit == 'max_epochs'
             else f'length of the training in steps; {plan.batch * plan.steps / len(plan.splits.train):.1f} epochs')
    parts = {'two-stage': _two_stage, 'yolov5': _yolov5, 'classifier': _classifier}[plan.model.kind]
    lines = [
        f'# {comment_text(about)}',
        f"_base_ = '{TEMPLATES}/{template}'",
        '',
        f'image_size = {plan.size.image_size}  # pixels' + (' of the longer side' if unit == 'max_iters' else ''),
        f'{unit} = {length}  # {words}',
        f'batch = {plan.batch}  # images in a step',
        '',
        f'folder, image_root = {folder}, {files}',
        f'classes = {_literal(tuple(plan.classes))}',
        f"work_dir = folder + '{RUN}'",
        *parts(plan),
        *_evaluation(plan),
        f'interval = max(1, {unit} // {plan.evaluations})  # between evaluations, which also save a checkpoint',
        *([_WARM_UP] if unit == 'max_iters' else ()),
        f'train_cfg = dict({unit}={unit}, val_interval=interval)',
        'default_hooks = dict(checkpoint=dict(interval=interval))',
        f'randomness = dict(seed={plan.choices.seed})',
    ]
    return '\n'.join(lines) + '\n'


def comment_text(text: str) -> str:
    """Return a text in the form that it has in the first line of a config: one line, with literal braces."""
    return literal_braces(' '.join(text.split()))


def _literal(value: object) -> str:
    return literal_braces(repr(value))


def _two_stage(plan: Plan) -> list[str]:
    mask = ', mask_head=dict(num_classes=len(classes))' if 'mask' in plan.model.template else ''
    heads = f'roi_head=dict(bbox_head=dict(num_classes=len(classes)){mask}))'
    model = f'model = dict({_weights(plan)}'
    if plan.size.scales:
        anchors = f'scales={list(plan.size.scales)}, ratios={list(plan.size.ratios)}'
        model += f'rpn_head=dict(anchor_generator=dict({anchors})),'
        models = [model, f'             {heads}']
    else:
        models = [model + heads]
    return [
        *models,
        *_common(),
        'jitter, resize = dict(_base_.jitter, image_size=image_size), '
        'dict(_base_.resize, scale=(image_size, image_size))',
        f'train_dataloader = dict(batch_size=batch, num_workers={plan.workers}, dataset=dict('
        "ann_file=folder + 'annotations/train.json',",
        '                        pipeline=[*_base_.load, jitter, _base_.pack_train], **common))',
        f'val_dataloader = dict(num_workers={plan.workers}, dataset=dict('
        "ann_file=folder + 'annotations/val.json',",
        '                      pipeline=[_base_.load_image, resize, _base_.pack_test], **common))']


def _yolov5(plan: Plan) -> list[str]:
    return [
        f'model = dict({_weights(plan)}bbox_head=dict(num_classes=len(classes), img_size=image_size))',
        *_common(),
        f'train_dataloader = dict(batch_size=batch, num_workers={plan.workers}, dataset=dict(',
        "    dataset=dict(ann_file=folder + 'annotations/train.json', pipeline=[_base_.load_boxes, "
        'dict(_base_.load_resized, img_size=image_size)], **common),',
        '    pipeline=[dict(_base_.mosaic, img_size=image_size), _base_.hsv, _base_.flip, _base_.pack_train]))',
        f'val_dataloader = dict(num_workers={plan.workers}, dataset=dict(img_size=image_size, dataset=dict('
        "ann_file=folder + 'annotations/val.json', **common,",
        '    pipeline=[_base_.load_image, dict(_base_.letterbox, img_size=image_size), _base_.load_boxes, '
        '_base_.pack_test])))',
        'custom_hooks = [dict(_base_.auto_anchor, img_size=image_size), *_base_.averaging]']


def _classifier(plan: Plan) -> list[str]:
    return [
        f'model = dict({_weights(plan)}head=dict(num_classes=len(classes)))',
        *_common(),
        f'train_dataloader = dict(batch_size=batch, num_workers={plan.workers}, dataset=dict('
        "ann_file=folder + 'annotations/train.txt', **common,",
        '    pipeline=[_base_.load_image, dict(_base_.crop, scale=image_size), *_base_.augment, _base_.pack]))',
        f'val_dataloader = dict(batch_size=batch, num_workers={plan.workers}, dataset=dict('
        "ann_file=folder + 'annotations/val.txt', **common,",
        '    pipeline=[_base_.load_image, dict(_base_.resize, scale=image_size), '
        'dict(_base_.center, crop_size=image_size), _base_.pack]))']


def _common() -> list[str]:
    return ['common = dict(data_root=image_root, metainfo=dict(classes=classes))']


def _weights(plan: Plan) -> str:
    if plan.weights is None:
        return ''
    return f"backbone=dict(init_cfg=dict(type='Pretrained', checkpoint={_literal(plan.weights)})), "


def _evaluation(plan: Plan) -> list[str]:
    """Return the lines about the test split, which is that of the source or else the validation split."""
    suffix = 'txt' if plan.model.kind == 'classifier' else 'json'
    evaluators = [f"val_evaluator = dict(ann_file=folder + 'annotations/val.{suffix}')"]
    if not plan.splits.test:
        if plan.model.kind == 'classifier':
            return ['test_dataloader = val_dataloader']
        return [*evaluators, 'test_dataloader, test_evaluator = val_dataloader, val_evaluator']
    test = f"ann_file=folder + 'annotations/test.{suffix}'"
    if plan.model.kind == 'yolov5':
        test = f"dataset=dict(val_dataloader['dataset']['dataset'], {test})"
    loader = f"test_dataloader = dict(val_dataloader, dataset=dict(val_dataloader['dataset'], {test}))"
    if plan.model.kind == 'classifier':
        return [loader]
    return [f"{evaluators[0]}; test_evaluator = dict(ann_file=folder + 'annotations/test.json')", loader]
