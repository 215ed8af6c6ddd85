"""Weights of a detector for a model with another backbone: what fits is loaded, the rest is reported."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vitdet_plugin.checkpoints.formats import Conversion

_BACKBONE = 'backbone.'


def leave_out_other_parts(converted: Conversion, own: Mapping[str, Tensor]) -> dict[str, str]:
    """Remove from ``converted`` what does not fit, if the model has another backbone than the file.

    Args:
        converted: Weights of a detector under this project's names; changed in place.
        own: Weights of the model.

    Returns:
        The weights that were removed, and why; empty if the backbone is the model's own kind.
    """
    backbone = [name for name in converted.state if name.startswith(_BACKBONE)]
    fitting = sum(name in own for name in backbone)
    if not backbone or 2 * fitting >= len(backbone) or not any(name.startswith(_BACKBONE) for name in own):
        return {}
    dropped = {}
    for name, value in converted.state.items():
        if name.startswith(_BACKBONE):
            dropped[name] = "another backbone; the model's keeps its weights"
        elif name not in own:
            dropped[name] = 'the model has no such weight'
        elif own[name].shape != value.shape:
            dropped[name] = "another shape than the model's, which keeps its initial values"
    for name in dropped:
        del converted.state[name]
    return dropped
