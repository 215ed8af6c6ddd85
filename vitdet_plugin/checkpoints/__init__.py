"""Official checkpoint formats in, ours out: one file a family.

Call ``vitdet_plugin.checkpoints.official.load_official`` or name a file in ``init_cfg``.
"""
