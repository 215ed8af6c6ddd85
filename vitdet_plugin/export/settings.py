"""The settings of ``test_cfg`` that an exported detector follows; the others are refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vitdet_plugin.errors import UserError

_NMS_KEYS = ('type', 'iou_threshold', 'class_agnostic', 'max_num', 'score_threshold', 'split_thr', 'offset')
_MAX_NUM = 'the number of rows of an exported model is fixed. Set it to a positive number, for example 100'


@dataclass(frozen=True)
class NmsSettings:
    """Non-maximum suppression as mmcv's ``batched_nms`` applies it.

    Attributes:
        iou_threshold: IoU above which a box is removed.
        class_agnostic: Suppress boxes of other classes (or levels) too.
        max_num: Most boxes that are kept; 0 for all.
        score_threshold: Boxes whose score is not above this are removed first.
    """

    iou_threshold: float
    class_agnostic: bool = False
    max_num: int = 0
    score_threshold: float = 0.0


def read_nms(cfg: Mapping[str, Any] | None, where: str) -> NmsSettings:
    """Return the suppression that a part of ``test_cfg`` describes.

    Args:
        cfg: Test config of a head.
        where: Its key in the config, for messages.

    Raises:
        UserError: It has none, another method than NMS, or an argument that the export does not follow.
    """
    nms = None if cfg is None else cfg.get('nms')
    if not isinstance(nms, Mapping):
        raise UserError(f'{where} has no nms, and export without suppression is not supported. Set '
                        f'{where}.nms=dict(type="nms", iou_threshold=0.5)')
    kind = nms.get('type', 'nms')
    if kind != 'nms':
        raise UserError(f'export of {kind} is not supported. Set nms.type=nms in {where}.')
    unknown = [key for key in nms if key not in _NMS_KEYS]
    if nms.get('offset', 0):
        unknown.append('offset')
    if unknown or 'iou_threshold' not in nms or nms.get('class_agnostic') and 'split_thr' in nms:
        what = f'{unknown[0]}={nms[unknown[0]]!r}' if unknown else 'split_thr with class_agnostic' \
            if 'iou_threshold' in nms else 'a missing iou_threshold'
        raise UserError(f'export of {what} in {where}.nms is not supported. Remove it, or export with --features')
    return NmsSettings(float(nms['iou_threshold']), bool(nms.get('class_agnostic', False)),
                       max(int(nms.get('max_num', -1)), 0), max(float(nms.get('score_threshold', 0)), 0.0))


def check_counts(cfg: Mapping[str, Any], where: str, needs_nms_pre: bool) -> None:
    """Check ``max_per_img`` and ``nms_pre``.

    Args:
        cfg: Test config of a head.
        where: Its key in the config, for messages.
        needs_nms_pre: mmdet's dense heads drop the box of lowest score where ``nms_pre`` is not positive.

    Raises:
        UserError: One of them is not positive.
    """
    limit = cfg.get('max_per_img')
    if not isinstance(limit, int) or limit <= 0:
        raise UserError(f'{where}.max_per_img={limit} keeps every box, but {_MAX_NUM}')
    if needs_nms_pre and not cfg.get('nms_pre', -1) > 0:
        raise UserError(f'{where}.nms_pre={cfg.get("nms_pre", -1)} is not supported by the export. Set it to a '
                        'positive number, for example 1000')
