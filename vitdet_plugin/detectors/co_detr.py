"""Co-DETR: DINO with collaborative hybrid assignments (arXiv 2211.12860)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.detectors import DINO
from mmdet.registry import MODELS
from mmengine.model import ModuleList
from torch import Tensor, nn

from vitdet_plugin.compat.two_stage import shared_element, shared_samples
from vitdet_plugin.errors import UserError
from vitdet_plugin.heads.co_positives import PositionQuery, Positives, collate_positives
from vitdet_plugin.heads.weighted_losses import weighted_losses

QUERY = 'query'


@MODELS.register_module()
class CoDETR(DINO):
    """DINO whose encoder and decoder are also trained by auxiliary heads with one-to-many assignments.

    In training, a pyramid is rebuilt from the output of the encoder (section 3.2). Auxiliary heads, R-CNN and ATSS,
    are trained on it, and their positive boxes become further queries of the decoder, with known targets
    (section 3.3). Prediction is DINO's, or that of an auxiliary head.

    Args:
        aux_rpn_head: ``RPNHead`` with ``train_cfg`` and ``test_cfg``; required by ``aux_roi_heads``.
        aux_roi_heads: ``CoStandardRoIHead`` with ``train_cfg`` and ``test_cfg``.
        aux_bbox_heads: ``CoATSSHead`` with ``train_cfg`` and ``test_cfg``.
        proposal_cfg: How proposals are selected in training; by default as in prediction.
        customized_loss_weight: Weight of the losses of customized queries (lambda 1 of the paper).
        aux_loss_weight: Weight of the losses of the auxiliary heads (lambda 2), which are counted once for each layer
            of the decoder.
        max_customized: Largest number of customized queries of an image and head.
        predict_with: 'query', 'roi_head.N' or 'bbox_head.N'.
        **kwargs: Arguments of mmdet's ``DINO``; ``bbox_head`` is the query head, ``CoDINOHead``.

    The auxiliary heads receive the levels of the encoder and one more of twice the last stride.
    """

    def __init__(self, *args: Any, aux_rpn_head: dict | None = None, aux_roi_heads: Sequence[dict] = (),
                 aux_bbox_heads: Sequence[dict] = (), proposal_cfg: dict | None = None,
                 customized_loss_weight: float = 1.0, aux_loss_weight: float = 2.0, max_customized: int = 300,
                 predict_with: str = QUERY, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if aux_roi_heads and not aux_rpn_head:
            raise UserError('CoDETR: model.aux_roi_heads requires proposals; set model.aux_rpn_head')
        if not hasattr(self.bbox_head, 'loss_customized'):
            raise UserError(f'CoDETR: model.bbox_head.type={type(self.bbox_head).__name__!r} cannot train customized '
                            "queries; set it to 'CoDINOHead'")
        self.aux_rpn_head = MODELS.build(aux_rpn_head) if aux_rpn_head else None
        self.aux_roi_heads = ModuleList(MODELS.build(each) for each in aux_roi_heads)
        self.aux_bbox_heads = ModuleList(MODELS.build(each) for each in aux_bbox_heads)
        known = [QUERY, *(f'roi_head.{i}' for i in range(len(self.aux_roi_heads))),
                 *(f'bbox_head.{i}' for i in range(len(self.aux_bbox_heads)))]
        if predict_with not in known:
            raise UserError(f'CoDETR: model.predict_with={predict_with!r} is unknown; choose one of {", ".join(known)}')
        self.predict_with, self.proposal_cfg, self.max_customized = predict_with, proposal_cfg, max_customized
        self.customized_loss_weight, self.aux_loss_weight = customized_loss_weight, aux_loss_weight
        width = self.embed_dims
        self.downsample = nn.Sequential(nn.Conv2d(width, width, 3, stride=2, padding=1),
                                        nn.GroupNorm(math.gcd(32, width), width))
        self.customized_queries = ModuleList(
            PositionQuery(width) for _ in range(len(self.aux_roi_heads) + len(self.aux_bbox_heads)))

    def loss(self, batch_inputs: Tensor, batch_data_samples: Sequence[Any]) -> dict[str, Any]:
        """Return the losses of the query head, of the auxiliary heads and of the customized queries.

        Args:
            batch_inputs: Images (B, 3, H, W).
            batch_data_samples: Their annotations.
        """
        samples = batch_data_samples
        memory, decoder_inputs, encoded = self._encode(batch_inputs, samples)
        queries, head_inputs = self.pre_decoder(**encoded, batch_data_samples=samples)
        head_inputs.update(self.forward_decoder(**{**decoder_inputs, **queries}))
        losses = self.bbox_head.loss(**head_inputs, batch_data_samples=samples)

        pyramid = self.build_pyramid(memory, decoder_inputs['spatial_shapes'])
        aux_losses, positives = self._aux_losses(pyramid, samples)
        weight = self.aux_loss_weight * self.decoder.num_layers
        losses.update(weighted_losses(aux_losses, weight))
        for i, each in enumerate(positives):
            found = self._customized_losses(i, each, memory, decoder_inputs, samples)
            losses.update({f'aux{i}.{name}': value * self.customized_loss_weight for name, value in found.items()})
        return losses

    def predict(self, batch_inputs: Tensor, batch_data_samples: Sequence[Any], rescale: bool = True) -> Any:
        """Predict boxes with the query head, or with the head of ``predict_with``."""
        if self.predict_with == QUERY:
            return super().predict(batch_inputs, batch_data_samples, rescale)
        memory, decoder_inputs, _ = self._encode(batch_inputs, batch_data_samples)
        pyramid = self.build_pyramid(memory, decoder_inputs['spatial_shapes'])
        kind, index = self.predict_with.split('.')
        if kind == 'roi_head':
            proposals = self.aux_rpn_head.predict(pyramid, batch_data_samples, rescale=False)
            results = self.aux_roi_heads[int(index)].predict(pyramid, proposals, batch_data_samples, rescale=rescale)
        else:
            results = self.aux_bbox_heads[int(index)].predict(pyramid, batch_data_samples, rescale=rescale)
        return self.add_pred_to_datasample(batch_data_samples, results)

    def build_pyramid(self, memory: Tensor, spatial_shapes: Tensor) -> tuple[Tensor, ...]:
        """Return the encoder's output (B, N, C) as one map (B, C, H, W) a level, and the last one downsampled.

        Args:
            memory: (B, N, C), all levels one after another.
            spatial_shapes: H and W of every level, (levels, 2).
        """
        sizes = [(int(height), int(width)) for height, width in spatial_shapes]
        maps = [each.transpose(1, 2).unflatten(2, hw).contiguous() for each, hw in zip(
            memory.split([height * width for height, width in sizes], 1), sizes, strict=True)]
        return *maps, self.downsample(maps[-1])

    def _encode(self, images: Tensor, samples: Sequence[Any]) -> tuple[Tensor, dict[str, Any], dict[str, Any]]:
        """Return the output of the encoder, the decoder's common arguments, and the arguments of ``pre_decoder``."""
        encoder_inputs, decoder_inputs = self.pre_transformer(self.extract_feat(images), samples)
        encoded = self.forward_encoder(**encoder_inputs)
        return encoded['memory'], decoder_inputs, encoded

    def _aux_losses(self, pyramid: tuple[Tensor, ...],
                    samples: Sequence[Any]) -> tuple[dict[str, Any], list[list[Positives]]]:
        """Return the losses of all auxiliary heads, and the positives of each R-CNN and ATSS head."""
        losses: dict[str, Any] = {}
        positives = []
        if self.aux_rpn_head is not None:
            objects = shared_samples(samples)
            for each in objects:  # one class
                each.gt_instances.labels = torch.zeros_like(each.gt_instances.labels)
            found, proposals = self.aux_rpn_head.loss_and_predict(
                pyramid, objects, proposal_cfg=self.proposal_cfg or self.aux_rpn_head.test_cfg)
            losses.update({f'rpn.{name}': value for name, value in found.items()})
        for head in self.aux_roi_heads:
            found, boxes = head.loss_and_positives(
                pyramid, [shared_element(each) for each in proposals], samples)
            losses.update({f'aux{len(positives)}.{name}': value for name, value in found.items()})
            positives.append(boxes)
        for head in self.aux_bbox_heads:
            found, boxes = head.loss_and_positives(pyramid, samples)
            losses.update({f'aux{len(positives)}.{name}': value for name, value in found.items()})
            positives.append(boxes)
        return losses, positives

    def _customized_losses(self, index: int, positives: list[Positives], memory: Tensor,
                           decoder_inputs: dict[str, Any], samples: Sequence[Any]) -> dict[str, Tensor]:
        metas = [each.metainfo for each in samples]
        targets = collate_positives(positives, [each['img_shape'][:2] for each in metas], self.bbox_head.num_classes,
                                    self.max_customized)
        mask = targets.attention_mask(self.decoder.layers[0].self_attn.num_heads)
        outs = self.forward_decoder(query=self.customized_queries[index](targets.boxes), memory=memory,
                                    reference_points=targets.boxes, dn_mask=mask, **decoder_inputs)
        return self.bbox_head.loss_customized(**outs, targets=targets, metas=metas)
