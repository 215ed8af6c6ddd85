"""What the OpenMMLab stack needs in order to run here; nothing outside this room patches anything."""

from vitdet_plugin.compat import mmcv_ext


def install() -> None:
    """Make the stack usable on this machine; safe to call more than once."""
    mmcv_ext.install()
    from vitdet_plugin.compat import mmdet_precision  # mmdet imports mmcv.ops, so it comes second

    mmdet_precision.install()
