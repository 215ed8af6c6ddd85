"""Load a checkpoint of any known format into a detector, a classifier or a backbone, with a short report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.logging import print_log
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor, nn

from vitdet_plugin.backbones.timm_vitdet import TimmViTDet
from vitdet_plugin.checkpoints.class_order import is_last_layer
from vitdet_plugin.checkpoints.detr import TRANSFORMER
from vitdet_plugin.checkpoints.exchange import leave_out_other_parts
from vitdet_plugin.checkpoints.files import read_weights
from vitdet_plugin.checkpoints.fit import CHECK, check_backbone, check_finite, find_depth_mismatch, fit_weight
from vitdet_plugin.checkpoints.formats import Conversion
from vitdet_plugin.checkpoints.plain_vit import recognize_plain_vit
from vitdet_plugin.checkpoints.recognition import recognize
from vitdet_plugin.errors import UserError
from vitdet_plugin.layers.lora import has_lora, merge_state_dict

# parts of Co-DETR and of the other relatives of DINO: a file with one of them has them all
_TRANSFORMER = {*TRANSFORMER, 'bbox_head', 'aux_rpn_head', 'aux_roi_heads', 'aux_bbox_heads', 'customized_queries',
                'downsample'}
_SHOWN = 4  # names listed in full in a report; the rest is counted


@dataclass
class LoadReport:
    """The format of a checkpoint and the result for each of its weights.

    Attributes:
        source: File name.
        recognized_as: Name of the format.
        reason: Weight names by which the format was recognized.
        matched: Weights that were loaded.
        resized: Weights that were fitted to another shape, and how.
        dropped: Weights that were left out on purpose, and why.
        missing: Weights of the model that the file lacks.
        unexpected: Weights of the file that the model lacks.
        note: Which of several sets of weights in the file was read, or empty.
    """

    source: str
    recognized_as: str
    reason: str = ''
    matched: list[str] = field(default_factory=list)
    resized: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    note: str = ''

    def __str__(self) -> str:
        why = f' ({self.reason})' if self.reason else ''
        lines = [f'{self.source}: recognized as {self.recognized_as}{why}; {len(self.matched)} weights matched']
        lines += [f'  {self.note}'] if self.note else []
        lines += [f'  resized {name}: {how}' for name, how in list(self.resized.items())[:_SHOWN]]
        lines += [f'  dropped {count}: {reason}' for reason, count in Counter(self.dropped.values()).items()]
        lines += [f'  {kind} {len(names)}: {_short(names)}'
                  for kind, names in (('missing', self.missing), ('unexpected', self.unexpected)) if names]
        return '\n'.join(lines)

    def allow(self, patterns: Sequence[str]) -> None:
        """Move unexpected weights whose names match one of ``patterns`` to the dropped ones."""
        for name in [name for name in self.unexpected if any(fnmatchcase(name, each) for each in patterns)]:
            self.unexpected.remove(name)
            self.dropped[name] = 'allowed by name'

    def raise_for_leftovers(self) -> None:
        """Raise a `UserError` if there are unexpected weights."""
        if self.unexpected:
            raise UserError(f'{self.source} ({self.recognized_as}) has {len(self.unexpected)} weights that the model '
                            f'lacks ({_short(self.unexpected)}); {CHECK}')


def convert(state: dict[str, Tensor], names_here: Set[str], source: str, form: str | None = None,
            backbone: nn.Module | None = None) -> tuple[LoadReport, Conversion]:
    """Recognize the format of ``state`` and rename its weights to those of a whole detector.

    Args:
        names_here: State-dict names of the model that receives the weights, which identify files of this project.
        source: File name for messages.
        form: Name of the format, instead of recognizing it.
        backbone: Backbone that receives the weights, if it decides on their names.

    Updates of low rank (LoRA) are added to the weights unless the model has such updates itself.

    Returns:
        A report with the format, the reason for it, and the weights that were dropped or that no rule covers; and the
        renamed weights.

    Raises:
        UserError: The format is unknown, or several formats match.
    """
    if has_lora(state) and not has_lora(names_here):
        state = merge_state_dict(state)
    if form is None and isinstance(backbone, TimmViTDet):
        found = recognize_plain_vit(state, backbone, names_here, source)
    else:
        found = recognize(state, names_here, source, form)
    converted = found.conversion
    reason = f"{found.reason}, without the prefix '{found.prefix}'" if found.prefix else found.reason
    report = LoadReport(source, found.name, reason, dropped=converted.dropped, unexpected=list(converted.unknown))
    return report, converted


def load_official(model: nn.Module, path: str | Path, *, allow_missing: bool = True, form: str | None = None,
                  allow_unexpected: Sequence[str] = (), other_classes: bool = False, key: str | None = None,
                  prefix: str | None = None) -> LoadReport:
    """Load a checkpoint of any known format into a detector, a classifier or a backbone alone.

    Position embeddings, patch kernels and relative position tables of other sizes are resized; the first convolution is
    changed to the model's input channels (:func:`~vitdet_plugin.checkpoints.fit.fit_channels`). A weight of the model
    that the checkpoint lacks keeps its value and is reported. If a backbone's checkpoint is loaded into a detector,
    only the backbone's weights count as missing; a classifier's head is left out there. Nothing is loaded if the file
    has another number of blocks, or lacks more than a few weights of the backbone that are not optional for it.

    Args:
        allow_missing: False makes every missing weight an error.
        form: Name of the format (:func:`known_formats`), instead of recognizing it.
        allow_unexpected: Names, or patterns with ``*``, of weights in the file that may be left out.
        other_classes: Keep the model's last layers if the checkpoint's have another number of classes.
        key, prefix: See :func:`~vitdet_plugin.checkpoints.files.read_weights`.

    Raises:
        UserError: Unknown or ambiguous format, a weight that cannot be resized, or weights that the model lacks.
    """
    weights = read_weights(path, key, prefix)
    source = weights.path
    own = model.state_dict()
    is_detector = any(name.startswith('backbone.') for name in own)
    names_here = set(own) if is_detector else {f'backbone.{name}' for name in own}
    report, converted = convert(weights.state, names_here, source, form, getattr(model, 'backbone', model))
    report.note = weights.note
    if converted.exchangeable:
        report.dropped.update(leave_out_other_parts(converted, own))
    if mismatch := find_depth_mismatch(filter(_in_backbone, converted.state), filter(_in_backbone, names_here)):
        raise UserError(f'{source} ({report.recognized_as}) {mismatch}; {CHECK}')
    state = {}
    for name, value in converted.state.items():
        own_name = name if is_detector else name.removeprefix('backbone.')
        reason = _why_not_taken(name, value, own.get(own_name), own, is_detector, other_classes)
        if reason:
            report.dropped[name] = reason
        elif own_name not in own or not is_detector and own_name == name:
            report.unexpected.append(name)
        else:
            state[own_name], how = fit_weight(own_name, value, own[own_name], model, source)
            if how:
                report.resized[own_name] = how
            report.matched.append(own_name)
    report.allow(allow_unexpected)
    parts = {name.split('.')[0] for name in converted.state}
    parts |= _TRANSFORMER if 'decoder' in parts else set()
    report.missing = [name for name in own if name not in state and (not is_detector or name.split('.')[0] in parts)]
    report.raise_for_leftovers()
    refused = report.missing
    if allow_missing:
        optional = converted.may_miss(set(report.missing), set(state)) if converted.may_miss else set(report.missing)
        refused = [name for name in report.missing if name not in optional and name not in report.dropped]
    if not report.matched:
        raise UserError(f'{source} ({report.recognized_as}) has none of the {len(own)} weights of the model; {CHECK}')
    if refused:
        raise UserError(f'{source} ({report.recognized_as}) lacks {len(refused)} weights of the model '
                        f'({_short(refused)}); {CHECK}')
    check_backbone([name for name in report.missing if name not in report.dropped], state, model,
                   f'{source} ({report.recognized_as})')
    check_finite(state, {name for name, _ in model.named_parameters()}, source)
    model.load_state_dict(state, strict=False)
    return report


def _in_backbone(name: str) -> bool:
    return name.startswith('backbone.')


def _why_not_taken(name: str, value: Tensor, own: Tensor | None, model: dict, is_detector: bool,
                   other_classes: bool) -> str | None:
    """Return the reason for leaving a weight out on purpose, or None."""
    if not is_detector:
        return None if name.startswith('backbone.') else 'not part of a backbone'
    if own is None:
        is_head = name.startswith('head.') and not any(each.startswith('head.') for each in model)
        return 'classification head: the detector has none' if is_head else None
    if other_classes and is_last_layer(name) and value.shape != own.shape and value.shape[1:] == own.shape[1:]:
        return f'{len(value)} outputs for other classes, here {len(own)}: re-initialized'
    return None


@WEIGHT_INITIALIZERS.register_module()
class OfficialCheckpoint:
    """``init_cfg=dict(type='OfficialCheckpoint', checkpoint=PATH)``: :func:`load_official` with its report logged.

    Args:
        checkpoint: Path or URL of the file, see :func:`~vitdet_plugin.checkpoints.files.load_file`.
        prefix: Part of the names that selects weights, such as 'backbone.', as in mmengine's ``PretrainedInit``.
        map_location: Accepted as in mmengine; the weights are copied to the device of the module.
        key: Where in the file the weights are, such as 'model_ema'.
        form, allow_unexpected: See :func:`load_official`.
    """

    def __init__(self, checkpoint: str, prefix: str | None = None, map_location: Any = 'cpu', key: str | None = None,
                 form: str | None = None, allow_unexpected: Sequence[str] = ()) -> None:
        self.checkpoint, self.prefix, self.key = checkpoint, prefix, key
        self.form, self.allow_unexpected = form, allow_unexpected

    def __call__(self, module: nn.Module) -> None:
        report = load_official(module, self.checkpoint, prefix=self.prefix, key=self.key, form=self.form,
                               allow_unexpected=self.allow_unexpected)
        master_only(print_log)(str(report), 'current')


def _short(names: list[str]) -> str:
    more = f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''
    return ', '.join(names[:_SHOWN]) + more
