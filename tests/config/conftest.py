from tests.engine.conftest import tiny_config, tiny_set  # noqa: F401  fixtures
