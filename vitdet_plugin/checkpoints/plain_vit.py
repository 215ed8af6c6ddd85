"""Official weights of plain ViTs (DINOv2, DINOv3, EVA-02, CLIP, …) under the names of timm."""

from __future__ import annotations

import sys

from torch import Tensor, nn


def to_timm_names(state: dict[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """Convert the weights of a plain ViT to the names and shapes of a model of timm.

    The conversion is timm's own, which its authors keep up to date; added are the rotary periods of DINOv3 and the
    parts that ``net`` has not: they are left out.

    Args:
        state: Weights in official names or those of timm.
        net: Model of timm, without its classification head.

    Returns:
        Weights that ``net`` has.
    """
    periods = next((value for name, value in state.items() if name.endswith('rope_embed.periods')), None)
    module = sys.modules[type(net).__module__]
    converted: dict[str, Tensor] = dict(module.checkpoint_filter_fn(dict(state), net))
    if periods is not None:
        converted['rope.periods'] = periods
    own = net.state_dict()
    return {name: value for name, value in converted.items() if name in own}
