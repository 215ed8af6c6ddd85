import json
import mmap

import torch
from torch import nn

from tests.datasets.tiny_classes import write_class_folders
from tests.end_to_end.tiny_set import CONFIG, load_tool
from tests.visualization.tiny_folder_classifier import write_classifier
from vitdet_plugin.evaluation.complexity import count_macs, peak_memory


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.ModuleDict(dict(backbone=nn.Conv2d(3, 8, 3, padding=1), head=nn.Linear(8, 5)))

    def forward(self, x):
        return self.model['head'](self.model['backbone'](x).mean((2, 3)))


def test_multiply_accumulates_are_counted_by_part():
    total, parts = count_macs(Pair(), torch.randn(1, 3, 10, 12))
    assert parts == {'backbone': 3 * 8 * 9 * 10 * 12, 'head': 40} and total == sum(parts.values())


def test_memory_of_a_step():
    def step():
        with mmap.mmap(-1, 64 * 2**20) as pages:  # new pages; a tensor may reuse memory of the process
            for start in range(0, len(pages), mmap.PAGESIZE):
                pages[start] = 1

    found = peak_memory(step, torch.device('cpu'))
    assert found is None or found > 20 * 2**20


def test_command(tmp_path, capsys):
    classifier, _ = write_classifier(tmp_path, write_class_folders(tmp_path / 'set', per_class=1))
    command = load_tool('analysis/get_flops').main
    results = tmp_path / 'f.json'
    assert command([classifier, '--repeats', '1', '--device', 'cpu', '--json', str(results)]) == 0
    first, = json.loads(results.read_text())
    assert command([str(CONFIG), '--repeats', '1', '--no-trace', '--device', 'cpu', '--json', str(results)]) == 0
    second, = json.loads(results.read_text())
    assert first['shape'] == [32, 48] and set(first['parts']) == {'backbone', 'head'}
    assert set(second['parts']) == {'backbone', 'neck', 'rpn_head', 'roi_head'}
    for found in (first, second):
        assert found['seconds'] > 0 and found['parameters'] == sum(part['parameters']
                                                                   for part in found['parts'].values())
        assert found['macs'] == sum(part['macs'] for part in found['parts'].values()) > 0
    tokens, dim = 4 * 6, 32  # patch embedding and the linear layers of two blocks, without attention itself
    assert first['parts']['backbone']['macs'] > tokens * dim * (3 * 64 + 2 * 12 * dim)
    assert 0.9 < first['macs_traced'] / first['macs'] < 1.1  # mmengine also counts normalization
    assert 'GMACs' in capsys.readouterr().out
    assert command([classifier, '--shape', '30', '31', '--device', 'cpu']) == 2
    assert 'patch_size=8' in capsys.readouterr().err
