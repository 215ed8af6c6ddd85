"""Published checkpoint formats and their conversion to this project's names; one file for each family of models.

Call ``vitdet_plugin.checkpoints.official.load_official`` or name a file in ``init_cfg``.
"""
