"""The small data set and config of the tests of the engine."""

from tests.engine.conftest import tiny_config, tiny_set, write_mae  # noqa: F401
