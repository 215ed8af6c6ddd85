"""Read the weights of any plain ViT (DINOv2, DINOv3, EVA-02, CLIP, …) into a backbone that timm builds.

The names are converted by timm's own functions, which its authors keep up to date. EVA-02's detectors are the
exception: they have a table of names in :mod:`vitdet_plugin.checkpoints.eva02`.
"""

from __future__ import annotations

import sys
from collections.abc import Set

from timm.models import vision_transformer
from torch import Tensor, nn

from vitdet_plugin.backbones.timm_vitdet import TimmViTDet
from vitdet_plugin.checkpoints import co_detr
from vitdet_plugin.checkpoints.detr import EXCHANGEABLE
from vitdet_plugin.checkpoints.eva02 import EVA02_DETECTRON2
from vitdet_plugin.checkpoints.formats import Conversion, show_names
from vitdet_plugin.checkpoints.hugging_face import to_official_names
from vitdet_plugin.checkpoints.prefixes import strip_wrappers, without_prefixes
from vitdet_plugin.checkpoints.recognition import HUGGING_FACE, Recognized, recognize
from vitdet_plugin.errors import UserError

_NET = 'backbone.net.'


def recognize_plain_vit(state: dict[str, Tensor], backbone: TimmViTDet, names_here: Set[str],
                        source: str) -> Recognized:
    """Rename the weights of a plain ViT, or of a detector with one, to those of a whole detector.

    Args:
        state: Weights in the names of this project, of timm, of an official file, of transformers or of EVA-02's
            detectors.
        backbone: Backbone that receives them.
        names_here: State-dict names of the model, with ``backbone.`` in front of those of the backbone.
        source: File name for messages.

    Raises:
        UserError: No name of the backbone is found in the file.
    """
    state = strip_wrappers(state, source)
    is_own = any(name in names_here or f'backbone.{name}' in names_here for name in state if '.net.' in f'.{name}')
    if EVA02_DETECTRON2.matched_keys(state):
        return recognize(state, names_here, source, EVA02_DETECTRON2.name)
    if is_own or any(each.matched_keys(state) for each in [*EXCHANGEABLE, *co_detr.FORMATS]):
        return recognize(state, names_here, source)
    if (renamed := to_official_names(state)) is not None:
        state = renamed
    found = [each for prefix, names in without_prefixes(state) if (each := _convert(names, backbone, prefix))]
    if not found:
        names = ', '.join(sorted(state)[:4])
        raise UserError(f'{source}: none of its weights belong to a {type(backbone.net).__name__} of timm (first '
                        f'names: {names}); give a checkpoint of this plain ViT')
    best = max(found, key=lambda each: len(each.conversion.state))  # the first, with the shortest prefix, of equal ones
    left = [name for name in state if not name.startswith(best.prefix)]
    best.conversion.dropped.update(dict.fromkeys(left, f"not under '{best.prefix}'"))
    best.name += HUGGING_FACE if renamed is not None else ''
    return best


def to_timm_names(state: dict[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """Convert the weights of a plain ViT to the names and shapes of a model of timm.

    Args:
        state: Weights in official names or those of timm.
        net: Model of timm.

    Returns:
        The weights, also those that ``net`` lacks (heads for example), with DINOv3's rotary periods, which timm's
        conversion leaves out because it computes them.
    """
    module = sys.modules[type(net).__module__]
    convert = getattr(module, 'checkpoint_filter_fn', vision_transformer.checkpoint_filter_fn)
    converted: dict[str, Tensor] = dict(convert(dict(state), net))
    if (periods := state.get('rope_embed.periods')) is not None:
        converted['rope.periods'] = periods
    return converted


def _convert(state: dict[str, Tensor], backbone: TimmViTDet, prefix: str) -> Recognized | None:
    try:
        converted = to_timm_names(state, backbone.net)
    except Exception:  # timm's functions expect names of their families; other names are not a plain ViT
        return None
    own = backbone.net.state_dict()
    kept = {name: value for name, value in converted.items()
            if name in own or name.startswith('blocks.') and not _is_cut_off(name, backbone)}
    if not kept.keys() & own.keys():
        return None
    used = {value.untyped_storage().data_ptr() for value in kept.values()}
    dropped = {f'{prefix}{name}': 'not part of this backbone' for name, value in state.items()
               if name not in kept and value.untyped_storage().data_ptr() not in used and name != 'cls_token'}
    return Recognized(f'plain ViT in a naming scheme of timm ({type(backbone.net).__name__})',
                      show_names([f'{prefix}{name}' for name in state], 1),
                      Conversion({f'{_NET}{name}': value for name, value in kept.items()}, dropped=dropped,
                                 may_miss=lambda missing, _: {name for name in missing if not name.startswith(_NET)}),
                      prefix)


def _is_cut_off(name: str, backbone: TimmViTDet) -> bool:
    """Whether a weight belongs to a block behind the last output, which the backbone does not keep."""
    return len(backbone.net.blocks) <= int(name.split('.')[1]) < backbone.depth
