"""Cases of ViTDet: backbone with pyramid, and complete detectors."""

from __future__ import annotations

from pathlib import Path

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor, nn

from tests.parity.goldens import Case, Verdict, compare_model, load_official_weights, register_kind
from vitdet_plugin.errors import UserError

BOX_TOLERANCE, SCORE_TOLERANCE = 0.01, 1e-4  # pixels; probability
# The published configs are tested, with the sizes of the case.
_CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
_PARENTS = {False: 'vitdet_100e.py', True: 'vitdet/cascade-mask-rcnn_vitdet-b_lsj-100e_coco.py'}


def backbone_config(config: dict, drop_path_rate: float = 0.0) -> dict:
    """Convert the constructor arguments of detectron2 or EasyCV to a config of ``ViTDet``."""
    windowed = set(config['window_block_indexes'])
    return dict(
        type='ViTDet', arch={key: config[key] for key in ('embed_dim', 'depth', 'num_heads')},
        img_size=config['img_size'], patch_size=config['patch_size'], window_size=config['window_size'],
        propagation='none', global_block_indexes=[i for i in range(config['depth']) if i not in windowed],
        residual_block_indexes=config.get('residual_block_indexes', ()), mlp_ratio=config.get('mlp_ratio', 4),
        in_channels=config.get('in_chans', 3), pretrain_use_cls_token=config.get('pretrain_use_cls_token', True),
        qkv_bias=config.get('qkv_bias', True), drop_path_rate=drop_path_rate,
        norm_eps=config.get('layer_norm_eps', config.get('norm_eps', 1e-6)),
        use_abs_pos=config.get('use_abs_pos', True), use_rel_pos=config.get('use_rel_pos', True),
        pretrain_img_size=config['pretrain_img_size'])


class _BackboneAndNeck(nn.Module):
    def __init__(self, config: dict, norm_cfg: dict, num_outs: int) -> None:
        super().__init__()
        self.backbone = MODELS.build(backbone_config(config))
        self.neck = MODELS.build(dict(
            type='SimpleFeaturePyramid', in_channels=config['embed_dim'], out_channels=config['out_channels'],
            scale_factors=config.get('scale_factors', (4.0, 2.0, 1.0, 0.5)), norm_cfg=norm_cfg, num_outs=num_outs))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.neck(self.backbone(x))


def _run_pyramid(case: Case, norm_cfg: dict) -> Verdict:
    image = case.inputs['input0'].clone().requires_grad_()
    names = sorted(key.removeprefix('out.') for key in case.expected if key.startswith('out.'))
    model = _BackboneAndNeck(case.config, norm_cfg, len(names)).to(image.dtype).eval()
    official_names = load_official_weights(model, case)
    outputs = dict(zip(names, model(image), strict=True))
    return compare_model(model, case, outputs, {'input0': image}, official_names)


@register_kind('vitdet_d2')
def run_detectron2(case: Case) -> Verdict:
    """Compare detectron2's ViT and SimpleFeaturePyramid, outputs p2 to p6."""
    return _run_pyramid(case, dict(type='LayerNorm2d', eps=1e-6))


@register_kind('vitdet_easycv')
def run_easycv(case: Case) -> Verdict:
    """Compare EasyCV's ViTDet with GroupNorm(1) in the pyramid, outputs out0 to out4."""
    norm = dict(type='GN', num_groups=case.config['num_groups'], eps=case.config['norm_eps'])
    return _run_pyramid(case, norm)


def published_config(config: dict) -> Config:
    """Return the published config, Mask or Cascade Mask R-CNN.

    Raises:
        UserError: If the configs are not installed.
    """
    path = _CONFIGS / _PARENTS[config['cascade']]
    if not path.is_file():
        raise UserError(f'{path} does not exist. Run the cases of complete detectors from a checkout.')
    return Config.fromfile(path)


def detector_config(config: dict) -> dict:
    """Return the model of the published config with the sizes of the case."""
    model = published_config(config).model
    width, classes, rpn, test = config['out_channels'], config['num_classes'], config['rpn'], config['test']
    model.backbone = backbone_config(config)
    model.neck.update(in_channels=config['embed_dim'], out_channels=width)
    model.data_preprocessor.update(mean=config['pixel_mean'], std=config['pixel_std'], bgr_to_rgb=False,
                                   pad_size_divisor=config['square_pad'])
    model.rpn_head.update(in_channels=width, feat_channels=width, num_convs=rpn['convs'])
    box_heads = model.roi_head.bbox_head if config['cascade'] else [model.roi_head.bbox_head]
    for head in box_heads:
        head.update(in_channels=width, conv_out_channels=width, fc_out_channels=config['fc_channels'],
                    num_classes=classes)
    model.roi_head.mask_head.update(in_channels=width, conv_out_channels=width, num_classes=classes)
    model.roi_head.mask_roi_extractor.out_channels = width
    extractor = model.roi_head.bbox_roi_extractor
    extractor.out_channels = width
    model.test_cfg.rpn.update(nms_pre=rpn['pre_nms_topk'], max_per_img=rpn['post_nms_topk'],
                              nms=dict(type='nms', iou_threshold=rpn['nms']))
    model.test_cfg.rcnn.update(score_thr=test['score_thr'], max_per_img=test['max_per_img'],
                               nms=dict(type='nms', iou_threshold=test['nms']))
    return model


@register_kind('vitdet_d2_detector')
@torch.no_grad()
def run_detector(case: Case) -> Verdict:
    """Compare a detectron2 detector from uint8 images to boxes, scores, labels and masks, and its feature pyramid."""
    from mmdet.registry import MODELS as MMDET_MODELS  # the default_scope of the config is mmdet
    from mmdet.utils import register_all_modules
    register_all_modules(init_default_scope=True)
    model = MMDET_MODELS.build(detector_config(case.config)).to(case.inputs['image0'].device).eval()
    load_official_weights(model, case)
    images = [case.inputs[f'image{i}'] for i in range(len(case.inputs))]
    samples = [DetDataSample(metainfo=dict(img_shape=image.shape[1:], ori_shape=image.shape[1:],
                                           scale_factor=(1.0, 1.0))) for image in images]
    data = model.data_preprocessor(dict(inputs=images, data_samples=samples), False)
    verdict = Verdict()
    for level, feature in enumerate(model.extract_feat(data['inputs']), start=2):
        verdict.compare(f'feat.p{level}', feature, case.expected[f'feat.p{level}'])
    # Mask probabilities within the tolerance of 0.5 can round to either side, so predict with both thresholds.
    loose, strict = (_predict(model, data, 0.5 + margin) for margin in (-SCORE_TOLERANCE, SCORE_TOLERANCE))
    for i, (found, certain) in enumerate(zip(loose, strict, strict=True)):
        expected = {key.split('.')[1]: value for key, value in case.expected.items() if key.startswith(f'det{i}.')}
        compare_detections(verdict, f'det{i}', found, certain.masks, expected)
    return verdict


def _predict(model: nn.Module, data: dict, mask_threshold: float) -> list[InstanceData]:
    model.roi_head.test_cfg.mask_thr_binary = mask_threshold
    samples = [sample.clone() for sample in data['data_samples']]
    return [result.pred_instances for result in model.predict(data['inputs'], samples, rescale=True)]


def compare_detections(verdict: Verdict, name: str, found: InstanceData, certain_masks: Tensor,
                       expected: dict[str, Tensor]) -> None:
    """Match detections by label, score and nearest box, then compare boxes, scores and masks.

    Args:
        verdict: Result to which the errors are added.
        name: Prefix of the compared quantities.
        found: Detections; ``masks`` contains all pixels above the lower threshold.
        certain_masks: Pixels above the upper threshold, of shape ``(N, H, W)``.
        expected: Detections of the reference.
    """
    if len(found) != len(expected['scores']):
        verdict.add(f'{name}.count', float('inf'), 0.0)
        return
    free, box_errors, score_errors, ious = set(range(len(found))), [0.0], [0.0], []
    for k, (box, label, score) in enumerate(zip(expected['boxes_xyxy'], expected['labels'], expected['scores'],
                                                strict=True)):
        candidates = [j for j in free if found.labels[j] == label and abs(found.scores[j] - score) <= SCORE_TOLERANCE]
        if not candidates:
            verdict.add(f'{name}.unpaired', float('inf'), 0.0)
            return
        best = min(candidates, key=lambda j: (found.bboxes[j] - box).abs().max().item())
        free.remove(best)
        box_errors.append((found.bboxes[best] - box).abs().max().item())
        score_errors.append(abs(found.scores[best] - score).item())
        mask = expected['masks'][k].bool()
        ious.append(_iou(mask & found.masks[best] | certain_masks[best], mask))
    # unlike Python's max, torch's max propagates NaN
    verdict.add(f'{name}.boxes_px', torch.tensor(box_errors).max().item(), BOX_TOLERANCE)
    verdict.add(f'{name}.scores', torch.tensor(score_errors).max().item(), SCORE_TOLERANCE)
    if ious:
        verdict.add(f'{name}.mask_iou_min', 1 - min(ious), 0.01)
        verdict.add(f'{name}.mask_iou_mean', 1 - sum(ious) / len(ious), 0.001)


def _iou(a: Tensor, b: Tensor) -> float:
    union = (a | b).sum().item()
    return (a & b).sum().item() / union if union else 1.0
