"""Loading any known checkpoint into a detector or a backbone, with a short report."""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field
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


def known_formats() -> list[Format]:
    """The formats of every family in this package."""
    formats = []
    for module in pkgutil.iter_modules(checkpoints.__path__, f'{checkpoints.__name__}.'):
        formats += getattr(importlib.import_module(module.name), 'FORMATS', [])
    return formats


def convert(state: dict[str, Tensor], names_here: Set[str], source: str) -> tuple[str, Conversion]:
    """Recognise the format of ``state`` and rename its weights to those of a whole detector.

    Args:
        names_here: the state-dict names of the model that will take the weights; our own checkpoints are known by them.
        source: file name for messages.

    Returns:
        The format's name and the renamed weights.

    Raises:
        UserError: the format is unknown.
    """
    names = set(state)
    for form in known_formats():
        if form.matches(names):
            return form.name, form.convert(state)
    if names & names_here:
        return 'this project', Conversion(state=dict(state))
    with_prefix = {f'backbone.{name}' for name in names}
    if with_prefix & names_here:
        return 'a backbone of this project', Conversion(state={f'backbone.{k}': v for k, v in state.items()})
    raise UserError(f'{source}: the weights are of no known format (first names: {_short(sorted(names))}); known are '
                    f'{", ".join(form.name for form in known_formats())} and our own')


def load_official(model: nn.Module, path: str | Path, *, allow_missing: bool = True) -> LoadReport:
    """Load a checkpoint of any known format into a detector, or into a backbone alone.

    Position embeddings, patch kernels and relative position tables of other sizes are resized. A weight of the model
    that the checkpoint lacks keeps its value and is reported; of a backbone's checkpoint that is loaded into a
    detector only the backbone's weights are looked for.

    Raises:
        UserError: unknown format, a weight that cannot be resized, or weights that the model does not know.
    """
    source = str(path)
    own = model.state_dict()
    is_detector = any(name.startswith('backbone.') for name in own)
    names_here = set(own) if is_detector else {f'backbone.{name}' for name in own}
    recognised_as, converted = convert(load_state_dict_file(path), names_here, source)
    report = LoadReport(source, recognised_as, dropped=converted.dropped, unexpected=list(converted.unknown))
    rooms = {name.split('.')[0] for name in converted.state}
    state = {}
    for name, value in converted.state.items():
        if not is_detector and not name.startswith('backbone.'):
            report.dropped[name] = 'not part of a backbone'
            continue
        own_name = name if is_detector else name.removeprefix('backbone.')
        if own_name not in own:
            if name.startswith('head.') and not any(each.startswith('head.') for each in own):
                report.dropped[name] = 'classification head: the detector has none'
            else:
                report.unexpected.append(name)
            continue
        state[own_name] = _fit(own_name, value, own[own_name], model, report)
        report.matched.append(own_name)
    looked_for = [name for name in own if not is_detector or name.split('.')[0] in rooms]
    report.missing = [name for name in looked_for if name not in state]
    if report.unexpected:
        raise UserError(f'{source} ({recognised_as}) has {len(report.unexpected)} weights that the model lacks '
                        f'({_short(report.unexpected)}); does the config describe this model?')
    refused = report.missing
    if allow_missing:
        forgiven = converted.may_miss(set(report.missing), set(state)) if converted.may_miss else set(report.missing)
        refused = [name for name in report.missing if name not in forgiven]
    if not report.matched or refused:
        raise UserError(f'{source} ({recognised_as}) lacks {len(refused)} weights of the model '
                        f'({_short(refused)}); does the config describe this model?')
    model.load_state_dict(state, strict=False)
    return report


@WEIGHT_INITIALIZERS.register_module()
class OfficialCheckpoint:
    """``init_cfg=dict(type='OfficialCheckpoint', checkpoint=PATH)``: :func:`load_official` with its report logged."""

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = checkpoint

    def __call__(self, module: nn.Module) -> None:
        master_only(print_log)(str(load_official(module, self.checkpoint)), 'current')


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
