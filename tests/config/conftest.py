"""The same small data set and config as for the engine."""

from tests.engine.conftest import tiny_config, tiny_set, write_mae  # noqa: F401
