import pytest

from tests.end_to_end.tiny_set import CONFIG, write_tiny_set


@pytest.fixture(scope='session')
def tiny_set(tmp_path_factory):
    return write_tiny_set(tmp_path_factory.mktemp('tiny') / 'set', images=6)


@pytest.fixture
def tiny_config(tiny_set, monkeypatch, tmp_path):
    """The end-to-end config on an existing set, with a work directory."""
    from vitdet_plugin.engine.config import load_config
    monkeypatch.setenv('TINY_SET', str(tiny_set))
    cfg = load_config(str(CONFIG))
    cfg.work_dir = str(tmp_path / 'work')
    cfg.launcher = 'none'
    return cfg
