"""``vitdet init`` on a sample of each format: a config and annotation files without findings, the source unchanged."""

import json

import pytest

from tests.datasets.formats.samples import DOUBTFUL_SAMPLES, SAMPLES, write_sample
from tests.datasets.own_data.drawn_sets import tree_hash
from vitdet_plugin.cli.main import main


@pytest.mark.parametrize('name', [*SAMPLES, *DOUBTFUL_SAMPLES])
def test_a_sample_of_each_format(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    kind, images, files = {**SAMPLES, **DOUBTFUL_SAMPLES}[name]
    data = write_sample(tmp_path / 'data', images, files)
    before = tree_hash(data)
    assert main(['init', 'data', '--model', 'tiny']) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f'format     {kind}: ') and 'no errors' in shown and 'problems.txt' not in shown
    assert tree_hash(data) == before
    out = tmp_path / 'runs' / 'data'
    if (out / 'annotations' / 'classes.txt').is_file():
        assert (out / 'annotations' / 'classes.txt').read_text().split() in (['cat'], ['cat', 'dog'])
        return
    content = json.loads((out / 'annotations' / 'train.json').read_text())
    (found,) = content['annotations']
    assert content['categories'] == [dict(id=1, name='cat')]
    assert found['bbox'] == pytest.approx([10, 20, 30, 40], abs=1)
