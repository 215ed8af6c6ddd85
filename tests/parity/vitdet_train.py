"""Cases of ViTDet in training mode: assignment, sampling, targets, losses, gradients and steps of the optimizer.

`observe` runs the published recipe on the inputs of a case and returns everything that the case may contain, under the
names of the case. `run_training` compares the two.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import PolygonMasks
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.structures import InstanceData
from torch import Tensor, nn

from tests.parity.goldens import Case, load_official_weights, register_kind
from tests.parity.train_verdict import compare
from tests.parity.vitdet import detector_config, published_config

LSJ_SIDE = 1024  # pixels; the canvas of the boxes lsj*


@register_kind('vitdet_d2_train')
def run_training(case: Case):
    """Compare the first step of a detectron2 training in detail, and the losses and weights of all steps."""
    return compare(observe(case), case)


def training_config(config: dict) -> ConfigDict:
    """Return the model of the published recipe with the sizes, thresholds and samples of the case."""
    model = detector_config(config)
    rpn, roi, train = config['rpn'], config['roi'], model.train_cfg
    low, high = rpn['thresholds'][0], rpn['thresholds'][-1]
    train.rpn.assigner.update(neg_iou_thr=low, pos_iou_thr=high, match_low_quality=rpn['allow_low_quality_matches'])
    train.rpn.sampler.update(num=rpn['batch_size_per_image'], pos_fraction=rpn['positive_fraction'])
    train.rpn_proposal.update(nms_pre=rpn['pre_nms_topk'], max_per_img=rpn['post_nms_topk'],
                              nms=dict(type='nms', iou_threshold=rpn['nms']))
    stages = train.rcnn if config['cascade'] else [train.rcnn]
    for stage, threshold in zip(stages, roi['thresholds'], strict=True):
        stage.assigner.update(pos_iou_thr=threshold, neg_iou_thr=threshold, min_pos_iou=threshold)
    stages[0].sampler.update(num=roi['batch_size_per_image'], pos_fraction=roi['positive_fraction'])
    return model


def observe(case: Case) -> dict[str, Any]:
    """Train the model of a case and return all quantities by their names in the case; ``param_groups`` is a dict."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    register_all_modules(init_default_scope=True)
    published = published_config(case.config)
    model = MODELS.build(training_config(case.config)).to(case.inputs['image0'].device).train()
    official_names = load_official_weights(model, case)
    data = model.data_preprocessor(_batch(case), True)
    seen = _observe_real_rpn(model, published, data, official_names)
    seen |= _observe_large_images(model, published, case) | _observe_narrow_objects(model, published, case)
    logger = MMLogger.get_current_instance()
    logger.setLevel('WARNING')  # the constructor reports its groups
    optimizer = build_optim_wrapper(model, _optimizer_config(published, case.config['optimizer']))
    logger.setLevel('INFO')
    seen['param_groups'] = _parameter_table(optimizer.optimizer, case.config['optimizer']['lr'], official_names)
    seen |= _observe_steps(model, optimizer, data, official_names, case.config)
    return seen


def _batch(case: Case) -> dict:
    images = [case.inputs[f'image{i}'] for i in range(case.config['images'])]
    samples = []
    for i, image in enumerate(images):
        height, width = image.shape[1:]
        boxes, parts = case.inputs[f'gt{i}.boxes'], [[] for _ in case.inputs[f'gt{i}.boxes']]
        for key in sorted(key for key in case.inputs if key.startswith(f'gt{i}.polygon')):
            parts[int(key.removeprefix(f'gt{i}.polygon').split('.')[0])].append(case.inputs[key].cpu().numpy())
        sample = DetDataSample(metainfo=dict(img_shape=(height, width), ori_shape=(height, width),
                                             scale_factor=(1.0, 1.0)))
        sample.gt_instances = InstanceData(bboxes=boxes, labels=case.inputs[f'gt{i}.labels'],
                                           masks=PolygonMasks(parts, height, width))
        sample.ignored_instances = InstanceData(bboxes=boxes[:0], labels=torch.zeros(0, dtype=torch.long))
        samples.append(sample)
    return dict(inputs=images, data_samples=samples)


class _Recorder:
    """Keeps the results of methods while it is entered."""

    def __init__(self) -> None:
        self.results: dict[str, list] = {}
        self._undo: list[Callable[[], None]] = []

    def __enter__(self) -> _Recorder:
        return self

    def __exit__(self, *_: Any) -> None:
        for undo in self._undo:
            undo()

    def watch(self, owner: Any, method: str, name: str) -> None:
        """Keep what ``owner.method`` returns in ``results[name]``, before its callers change it."""
        original, kept = getattr(owner, method), self.results.setdefault(name, [])

        def recorded(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            kept.append([copy.copy(each) for each in result] if isinstance(result, list) else copy.copy(result))
            return result

        setattr(owner, method, recorded)
        self._undo.append(lambda: delattr(owner, method))


def _observe_steps(model: nn.Module, optimizer: Any, data: dict, official_names: dict[str, str], config: dict) -> dict:
    parameters = {theirs: dict(model.named_parameters())[ours] for theirs, ours in official_names.items()
                  if ours in dict(model.named_parameters())}
    before = {name: p.detach().clone() for name, p in parameters.items()}
    seen, losses, norms = {}, [], []
    for step in range(config['optimizer']['steps']):
        with _Recorder() as recorder:
            if step == 0:
                _watch_decisions(recorder, model, config)
            losses.append(_losses(model, data))
        if step == 0:
            seen |= _decisions(recorder.results, data, config)
        optimizer.zero_grad()
        losses[-1]['total'].backward()
        grads = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in parameters.items()}
        norms.append(torch.stack([grad.norm() for grad in grads.values()]).norm())
        if step == 0:
            seen |= {f'grad.param.{name}': grad.clone() for name, grad in grads.items()}
            seen |= {f'gradnorm.param.{name}': grad.norm().reshape(1) for name, grad in grads.items()}
        optimizer.step()
    for name in losses[0]:
        seen[f'loss.{name}'] = torch.stack([step[name].detach() for step in losses])
    for name, p in parameters.items():
        after = p.detach()
        seen[f'after.param.{name}'], seen[f'afternorm.param.{name}'] = after, after.norm().reshape(1)
        seen[f'updatenorm.param.{name}'] = (after - before[name]).norm().reshape(1)
    return seen | {'gradnorm_steps': torch.stack(norms)}


def _losses(model: nn.Module, data: dict) -> dict[str, Tensor]:
    """Return the losses by detectron2's names, and their sum."""
    samples = copy.deepcopy(data['data_samples'])
    summed = {name: sum(value) if isinstance(value, list) else value.sum()  # the mask loss has shape (1,)
              for name, value in model.loss(data['inputs'], samples).items() if 'loss' in name}
    renamed = {'loss_rpn_bbox': 'loss_rpn_loc', 'loss_bbox': 'loss_box_reg'}
    losses = {}
    for name, value in summed.items():
        stage, _, rest = name.rpartition('.')
        losses[renamed.get(rest, rest) + (f'_stage{stage[1:]}' if stage else '')] = value
    return losses | {'total': sum(losses.values())}


def _watch_decisions(recorder: _Recorder, model: nn.Module, config: dict) -> None:
    recorder.watch(model.rpn_head.assigner, 'assign', 'rpn')
    recorder.watch(model.rpn_head, 'predict_by_feat', 'proposals')
    samplers = model.roi_head.bbox_sampler if config['cascade'] else [model.roi_head.bbox_sampler]
    for stage, sampler in enumerate(samplers):
        recorder.watch(sampler, 'sample', f'stage{stage}')
    recorder.watch(model.roi_head.mask_head, 'get_targets', 'mask_target')


def _decisions(results: dict[str, list], data: dict, config: dict) -> dict[str, Tensor]:
    seen, targets = {}, results['mask_target'][0]
    for i, assigned in enumerate(results['rpn']):
        seen |= _anchor_labels(f'rpn{i}', assigned.gt_inds)
    for i, found in enumerate(results['proposals'][0]):
        seen[f'proposals{i}.boxes'], seen[f'proposals{i}.logits'] = found.bboxes, found.scores.logit()
    for stage in range(len(config['roi']['thresholds'])):
        for i, result in enumerate(results[f'stage{stage}']):
            count = len(result.priors)
            boxes, matched = torch.empty(count, 4), torch.full((count,), -1)
            labels = torch.full((count,), config['num_classes'])
            boxes[result.pos_inds], boxes[result.neg_inds] = result.pos_priors, result.neg_priors
            matched[result.pos_inds], labels[result.pos_inds] = result.pos_assigned_gt_inds, result.pos_gt_labels
            objects = len(data['data_samples'][i].gt_instances) if stage == 0 else 0
            order = torch.arange(count).roll(-objects)  # detectron2 appends the objects, mmdet inserts them
            name = f'stage{stage}.roi{i}' if stage else f'roi{i}'
            seen |= {f'{name}.boxes': boxes[order], f'{name}.labels': labels[order], f'{name}.matched': matched[order]}
            if stage == 0:
                drawn, targets = targets[:len(result.pos_inds)], targets[len(result.pos_inds):]
                seen[f'mask_target{i}'] = drawn.to(torch.uint8)
                seen[f'mask_target{i}.index'] = (result.pos_inds - objects) % max(count, 1)
    return seen


def _anchor_labels(name: str, gt_inds: Tensor) -> dict[str, Tensor]:
    matched = torch.where(gt_inds > 0, gt_inds - 1, -1)
    return {f'{name}.labels': gt_inds.clamp(-1, 1).to(torch.int8), f'{name}.matched': matched.to(torch.int16)}


def _observe_real_rpn(model: nn.Module, published: ConfigDict, data: dict, official_names: dict[str, str]) -> dict:
    """Labels, losses and gradients of the proposal network with the assigner of the recipe, every anchor sampled."""
    from mmdet.registry import TASK_UTILS
    head, seen = model.rpn_head, {}
    own, head.assigner = head.assigner, TASK_UTILS.build(published.model.train_cfg.rpn.assigner)
    samples = copy.deepcopy(data['data_samples'])
    for sample in samples:
        sample.gt_instances.labels = torch.zeros_like(sample.gt_instances.labels)
    with _Recorder() as recorder:
        recorder.watch(head.assigner, 'assign', 'rpn')
        losses = head.loss(model.extract_feat(data['inputs']), samples)
    head.assigner = own
    cls, loc = (sum(losses[name]) * head.sampler.num * len(samples) for name in ('loss_rpn_cls', 'loss_rpn_bbox'))
    used = 0
    for i, assigned in enumerate(recorder.results['rpn']):
        seen |= _anchor_labels(f'real.rpn{i}', assigned.gt_inds)
        used += int((assigned.gt_inds >= 0).sum())
    seen |= {'real.loss_rpn_cls_sum': cls.detach().reshape(1), 'real.loss_rpn_loc_sum': loc.detach().reshape(1)}
    ((cls + loc) / used).backward()
    for theirs, ours in official_names.items():
        if ours.startswith('rpn_head.'):
            grad = head.get_parameter(ours.removeprefix('rpn_head.')).grad.clone()
            seen |= {f'real.grad.param.{theirs}': grad, f'real.gradnorm.param.{theirs}': grad.norm().reshape(1)}
    model.zero_grad()
    return seen


def _observe_large_images(model: nn.Module, published: ConfigDict, case: Case) -> dict[str, Tensor]:
    """Labels of all anchors of a canvas of the real size."""
    from mmdet.registry import TASK_UTILS
    sizes = [(LSJ_SIDE // stride[0],) * 2 for stride in model.rpn_head.prior_generator.strides]
    device = next(model.parameters()).device
    anchors = InstanceData(priors=torch.cat(model.rpn_head.prior_generator.grid_priors(sizes, device=device)))
    assigner, seen = TASK_UTILS.build(published.model.train_cfg.rpn.assigner), {}
    for key in (key for key in case.inputs if key.startswith('lsj')):
        boxes, name = case.inputs[key], key.removesuffix('.boxes')
        objects = InstanceData(bboxes=boxes, labels=torch.zeros(len(boxes), dtype=torch.long))
        found = assigner.assign(anchors, objects).gt_inds
        positive, ignored = ((found > 0).nonzero()[:, 0], (found < 0).nonzero()[:, 0])
        seen |= {f'{name}.positive': positive.int(), f'{name}.ignored': ignored.int(),
                 f'{name}.matched': (found[positive] - 1).to(torch.int16)}
    return seen


def _observe_narrow_objects(model: nn.Module, published: ConfigDict, case: Case) -> dict[str, Tensor]:
    """Mask targets of objects in their own boxes."""
    if 'narrow.boxes' not in case.inputs:
        return {}
    boxes = case.inputs['narrow.boxes']
    polygons = [[case.inputs[f'narrow.polygon{k}'].cpu().numpy()] for k in range(len(boxes))]
    objects = InstanceData(masks=PolygonMasks(polygons, LSJ_SIDE, LSJ_SIDE))
    sampled = SimpleNamespace(pos_priors=boxes, pos_assigned_gt_inds=torch.arange(len(boxes)))
    stages = published.model.train_cfg.rcnn
    drawn = model.roi_head.mask_head.get_targets([sampled], [objects], stages[0] if case.config['cascade'] else stages)
    return {'narrow.mask_target': drawn.to(torch.uint8)}


def _optimizer_config(published: ConfigDict, settings: dict) -> dict:
    """Return the recipe's ``optim_wrapper`` with the numbers of the case."""
    wrapper = copy.deepcopy(published.optim_wrapper)
    wrapper.paramwise_cfg.layer_decay_rate = settings['lr_decay_rate']
    wrapper.optimizer.update(type=settings['type'], lr=settings['lr'], betas=tuple(settings['betas']),
                             eps=settings['eps'], weight_decay=settings['weight_decay'])
    return wrapper


def _parameter_table(optimizer: torch.optim.Optimizer, lr: float, official_names: dict[str, str]) -> dict:
    """Official parameter name -> [factor on the learning rate, weight decay]."""
    by_name = {name: [group['lr'] / lr, group['weight_decay']]
               for group in optimizer.param_groups for name in group['param_names']}
    return {theirs: by_name[ours] for theirs, ours in official_names.items() if ours in by_name}
