"""The text of a config with long paths is formatted once, and reads back as the same config."""

import pytest
from mmengine.config import Config

from vitdet_plugin import register_all


@pytest.mark.parametrize('path', ['/tmp/' + 'a long folder/' * 12, "/tmp/it's " + 'é' * 60, '/tmp/\\"' + 'q' * 40,
                                  '<0>', '/a/{{ fileDirname }}/{{_base_.x}}/{{$HOME:1}}/{{{{'])
def test_long_strings_come_back(path):
    register_all()
    cfg = Config(dict(a=dict(b=[dict(path=path, more=dict(path=path + '2', x='<1>' if path == '<0>' else 1))])))
    assert Config.fromstring(cfg.pretty_text, '.py')._cfg_dict == cfg._cfg_dict


def test_an_equal_text_is_formatted_once(monkeypatch):
    register_all()
    cfg = Config(dict(path='/tmp/' + 'folder/' * 20))
    assert cfg.pretty_text is cfg.pretty_text
