"""Importing this module registers every class of the package; call `vitdet_plugin.register_all` instead."""

from vitdet_plugin import compat
from vitdet_plugin.utils.registering import import_registering_modules

_HAS_STACK = compat.install()
if _HAS_STACK:
    from vitdet_plugin.compat import ms_deform_attn as mmcv_attention
    from vitdet_plugin.compat import nms as mmcv_nms
    from vitdet_plugin.ops.ms_deform_attn import ms_deform_attn
    from vitdet_plugin.ops.nms import nms

    mmcv_attention.install(ms_deform_attn)  # compat must not import operators
    mmcv_nms.use_on_gpus(nms)
# without mmcv or mmdet: backbones and other modules that do not need them
import_registering_modules(skip_incomplete=not _HAS_STACK)
