"""Load the head of a classifier's checkpoint, for fine-tuning on other classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.logging import print_log
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import nn

from vitdet_plugin.checkpoints.files import read_weights
from vitdet_plugin.checkpoints.official import LoadReport, convert
from vitdet_plugin.errors import UserError


def load_head(head: nn.Module, path: str | Path, classifiers: Sequence[str], key: str | None = None,
              prefix: str | None = None) -> LoadReport:
    """Load the weights of a classification head from a checkpoint of any known format.

    Args:
        classifiers: Names of the head's final layers. A layer keeps its values if the checkpoint's has another shape
            (another number of classes); layers that the head does not have are ignored.
        key, prefix: See :func:`~vitdet_plugin.checkpoints.files.read_weights`.

    Raises:
        UserError: The checkpoint has no weights of a head, or another weight that does not fit.
    """
    own = head.state_dict()
    weights = read_weights(path, key, prefix)
    report, converted = convert(weights.state, {f'head.{name}' for name in own}, str(path))
    report.note = weights.note
    state = {}
    for full_name, value in converted.state.items():
        name = full_name.removeprefix('head.')
        if name == full_name:
            report.dropped[full_name] = 'not part of a head'
        elif name in own and own[name].shape == value.shape:
            state[name] = value
        elif name.split('.')[0] in classifiers:
            report.dropped[full_name] = 'classifier of other classes'
        else:
            shape = tuple(own[name].shape) if name in own else None
            raise UserError(f'{path}: {name} is {tuple(value.shape)}, the head requires {shape or "none"}; '
                            'check that the config describes this model')
    if not state:
        raise UserError(f'{path} ({report.recognized_as}) has no weights for {type(head).__name__}; give '
                        'a checkpoint of a classifier')
    report.matched, report.missing = list(state), [name for name in own if name not in state]
    head.load_state_dict(state, strict=False)
    return report


@WEIGHT_INITIALIZERS.register_module()
class OfficialHead:
    """``init_cfg=dict(type='OfficialHead', checkpoint=PATH, classifiers=[...])``: :func:`load_head`, logged.

    ``prefix``, ``map_location`` and ``key`` are those of
    :class:`~vitdet_plugin.checkpoints.official.OfficialCheckpoint`.
    """

    def __init__(self, checkpoint: str, classifiers: Sequence[str] = ('fc',), prefix: str | None = None,
                 map_location: Any = 'cpu', key: str | None = None) -> None:
        self.checkpoint, self.classifiers, self.key, self.prefix = checkpoint, classifiers, key, prefix

    def __call__(self, module: nn.Module) -> None:
        report = load_head(module, self.checkpoint, self.classifiers, self.key, self.prefix)
        master_only(print_log)(str(report), 'current')
