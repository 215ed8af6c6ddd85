"""Import the plugin before any test module imports mmcv.ops."""

import vitdet_plugin  # noqa: F401
