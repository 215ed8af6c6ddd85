"""Loading any known checkpoint into a detector or a backbone, with a short report."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from mmengine.dist import master_only
from mmengine.logging import print_log
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor, nn

from vitdet_plugin import checkpoints
from vitdet_plugin.backbones.base import Backbone
from vitdet_plugin.checkpoints.files import load_state_dict_file
from vitdet_plugin.checkpoints.formats import Conversion, Format
from vitdet_plugin.errors import UserError

# Layers with one output, or one group of them, a class.
_LAST_LAYER = re.compile(r'(?:fc_cls|fc_reg|conv_logits|head\.(?:\w+\.)*(?:fc|aux_head))\.(?:weight|bias)$')
OURS = ('this project', 'a backbone of this project')  # what our own files are recognised as
_SHOWN = 4  # names listed in full in a report; the rest is counted


@dataclass
class LoadReport:
    """What became of the weights of a checkpoint."""

    source: str
    recognised_as: str
    matched: list[str] = field(default_factory=list)
    resized: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f'{self.source}: recognised as {self.recognised_as}; {len(self.matched)} weights matched']
        lines += [f'  resized {name}: {how}' for name, how in list(self.resized.items())[:_SHOWN]]
        lines += [f'  dropped {count}: {reason}' for reason, count in Counter(self.dropped.values()).items()]
        lines += [f'  {kind} {len(names)}: {_short(names)}'
                  for kind, names in (('missing', self.missing), ('unexpected', self.unexpected)) if names]
        return '\n'.join(lines)

    def allow(self, patterns: Sequence[str]) -> None:
        """Move unexpected weights whose names fit one of ``patterns`` to the dropped ones."""
        for name in [name for name in self.unexpected if any(fnmatchcase(name, each) for each in patterns)]:
            self.unexpected.remove(name)
            self.dropped[name] = 'allowed by name'

    def raise_for_leftovers(self) -> None:
        """Raise a `UserError` if there are unexpected weights."""
        if self.unexpected:
            raise UserError(f'{self.source} ({self.recognised_as}) has {len(self.unexpected)} weights that the model '
                            f'lacks ({_short(self.unexpected)}); does the config describe this model?')


def known_formats() -> list[Format]:
    """The formats of every family in this package."""
    formats = []
    for module in pkgutil.iter_modules(checkpoints.__path__, f'{checkpoints.__name__}.'):
        formats += getattr(importlib.import_module(module.name), 'FORMATS', [])
    return formats


def convert(state: dict[str, Tensor], names_here: Set[str], source: str,
            form: str | None = None) -> tuple[str, Conversion]:
    """Recognise the format of ``state`` and rename its weights to those of a whole detector.

    Args:
        names_here: the state-dict names of the model that will take the weights; our own checkpoints are known by them.
        source: file name for messages.
        form: name of the format, instead of recognising it.

    Returns:
        The format's name and the renamed weights.

    Raises:
        UserError: the format is unknown.
    """
    names, formats = set(state), known_formats()
    if form is not None and form not in {each.name for each in formats}:
        raise UserError(f'format {form!r} is unknown; choose one of {", ".join(repr(each.name) for each in formats)}')
    for each in formats:
        if each.name == form or form is None and each.matches(names):
            return each.name, each.convert(state)
    if names & names_here:
        return OURS[0], Conversion(dict(state), {name: name for name in state})
    with_prefix = {f'backbone.{name}' for name in names}
    if with_prefix & names_here:
        return OURS[1], Conversion({f'backbone.{name}': value for name, value in state.items()},
                                     {f'backbone.{name}': name for name in state})
    raise UserError(f'{source}: the weights are of no known format (first names: {_short(sorted(names))}); known are '
                    f'{", ".join(form.name for form in formats)} and our own')


def load_official(model: nn.Module, path: str | Path, *, allow_missing: bool = True, form: str | None = None,
                  allow_unexpected: Sequence[str] = (), other_classes: bool = False) -> LoadReport:
    """Load a checkpoint of any known format into a detector, a classifier or a backbone alone.

    Position embeddings, patch kernels and relative position tables of other sizes are resized. A weight of the model
    that the checkpoint lacks keeps its value and is reported; of a backbone's checkpoint that is loaded into a
    detector only the backbone's weights are looked for, and the head of a classifier is left out there.

    Args:
        allow_missing: False makes every missing weight an error.
        form: name of the format (:func:`known_formats`), instead of recognising it.
        allow_unexpected: names, or patterns with ``*``, of weights in the file that may be left out.
        other_classes: where the last layers are for another number of classes, keep the model's own.

    Raises:
        UserError: unknown format, a weight that cannot be resized, or weights that the model does not know.
    """
    source = str(path)
    own = model.state_dict()
    is_detector = any(name.startswith('backbone.') for name in own)
    names_here = set(own) if is_detector else {f'backbone.{name}' for name in own}
    recognised_as, converted = convert(load_state_dict_file(path), names_here, source, form)
    report = LoadReport(source, recognised_as, dropped=converted.dropped, unexpected=list(converted.unknown))
    state = {}
    for name, value in converted.state.items():
        own_name = name if is_detector else name.removeprefix('backbone.')
        reason = _why_not_taken(name, value, own.get(own_name), own, is_detector, other_classes)
        if reason:
            report.dropped[name] = reason
        elif own_name not in own or not is_detector and own_name == name:
            report.unexpected.append(name)
        else:
            state[own_name] = _fit(own_name, value, own[own_name], model, report)
            report.matched.append(own_name)
    report.allow(allow_unexpected)
    rooms = {name.split('.')[0] for name in converted.state}
    report.missing = [name for name in own if name not in state and (not is_detector or name.split('.')[0] in rooms)]
    report.raise_for_leftovers()
    refused = report.missing
    if allow_missing:
        forgiven = converted.may_miss(set(report.missing), set(state)) if converted.may_miss else set(report.missing)
        refused = [name for name in report.missing if name not in forgiven and name not in report.dropped]
    if not report.matched or refused:
        raise UserError(f'{source} ({recognised_as}) lacks {len(refused)} weights of the model '
                        f'({_short(refused)}); does the config describe this model?')
    model.load_state_dict(state, strict=False)
    return report


def _why_not_taken(name: str, value: Tensor, own: Tensor | None, model: dict, is_detector: bool,
                   other_classes: bool) -> str | None:
    """The reason for leaving a weight out on purpose, if there is one."""
    if not is_detector:
        return None if name.startswith('backbone.') else 'not part of a backbone'
    if own is None:
        is_head = name.startswith('head.') and not any(each.startswith('head.') for each in model)
        return 'classification head: the detector has none' if is_head else None
    if other_classes and _LAST_LAYER.search(name) and value.shape != own.shape and value.shape[1:] == own.shape[1:]:
        return f'{len(value)} outputs for other classes, here {len(own)}: drawn anew'
    return None


@WEIGHT_INITIALIZERS.register_module()
class OfficialCheckpoint:
    """``init_cfg=dict(type='OfficialCheckpoint', checkpoint=PATH)``: :func:`load_official` with its report logged.

    Args:
        checkpoint: path of the file.
        form, allow_unexpected: of :func:`load_official`.
    """

    def __init__(self, checkpoint: str, form: str | None = None, allow_unexpected: Sequence[str] = ()) -> None:
        self.checkpoint, self.form, self.allow_unexpected = checkpoint, form, allow_unexpected

    def __call__(self, module: nn.Module) -> None:
        report = load_official(module, self.checkpoint, form=self.form, allow_unexpected=self.allow_unexpected)
        master_only(print_log)(str(report), 'current')


def _fit(name: str, value: Tensor, own: Tensor, model: nn.Module, report: LoadReport) -> Tensor:
    """``value`` in the shape of the model's weight ``own``."""
    if value.shape == own.shape:
        return value
    holder = model.backbone if name.startswith('backbone.') else model
    fitted = None
    if isinstance(holder, Backbone):
        fitted = holder.resize_weight(name.removeprefix('backbone.'), value, own)
    if fitted is None or fitted.shape != own.shape:
        raise UserError(f'{report.source}: {name} is {tuple(value.shape)}, the model wants {tuple(own.shape)}; does '
                        'the config describe this model?')
    report.resized[name] = f'{tuple(value.shape)} to {tuple(own.shape)}'
    return fitted.to(value.dtype)


def _short(names: list[str]) -> str:
    more = f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''
    return ', '.join(names[:_SHOWN]) + more
