import json

import pytest
import torch
from mmengine.config import Config
from torch.utils.flop_counter import FlopCounterMode

from tests.end_to_end.tiny_set import CONFIG
from vitdet_plugin.backbones.base import repeated_blocks
from vitdet_plugin.cli.flops import main
from vitdet_plugin.config.loading import load_config
from vitdet_plugin.engine.load_model import build_model
from vitdet_plugin.errors import UserError
from vitdet_plugin.evaluation.scaling.plan import KNOWN, names_of
from vitdet_plugin.evaluation.scaling.simulate import PlannedModel


@pytest.fixture(scope='module')
def tiny():
    return PlannedModel(load_config(str(CONFIG)), (64, 64))


def test_numbers_of_parameters(tiny):
    sizes, blocks = tiny.sizes, repeated_blocks(tiny.model.backbone)
    assert len(blocks) == len(tiny.model.backbone.blocks)
    assert sizes.parameters == sum(p.numel() for p in tiny.model.parameters()) >= sizes.trainable
    assert sizes.outside + sum(p.numel() for block in blocks for p in block.parameters()) == sizes.parameters


def test_variants_of_a_detector(tiny):
    plain, without, saving = tiny.count(2, True, False), tiny.count(2, False, False), tiny.count(2, True, True)
    assert plain.saved < without.saved and plain.flops(False) < without.flops(False)
    assert saving.saved < plain.saved and saving.flops(True) > plain.flops(True)
    assert saving.flops(False) == plain.flops(False)
    assert 1.8 < plain.flops(True) / plain.flops(False) < 2.7
    single = tiny.count(1, True, False)
    assert plain.flops(False) == 2 * single.flops(False)
    assert single.saved < plain.saved < 2 * single.saved  # copies of the weights in bfloat16 do not grow with the batch
    assert {device.type for device in {p.device for p in tiny.model.parameters()}} == {'meta'}


def test_operations_are_those_of_the_real_model():
    backbone = dict(type='ViTDet', arch=dict(embed_dim=32, depth=2, num_heads=2), img_size=64, window_size=2)
    cfg = Config(dict(default_scope='mmpretrain', model=dict(
        type='ImageClassifier', backbone=backbone, neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=7, in_channels=32))))
    planned = PlannedModel(cfg, (64, 64))
    real = build_model(cfg)
    for block in real.backbone.blocks:
        block.attn.form = 'dense'  # its products are counted, those in custom functions are not
    with FlopCounterMode(display=False) as forward:
        loss = real(torch.zeros(3, 3, 64, 64), None, mode='tensor').sum()
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    found = planned.count(3, True, False)
    assert found.flops(False) == forward.get_total_flops()
    blocks, images, heads, tokens, channels = 2, 3, 2, 16, 16
    scores = blocks * images * heads * 2 * tokens * tokens * channels  # fused attention computes them again
    assert found.flops(True) - backward.get_total_flops() == scores


def test_known_names():
    assert names_of(['all', 'x']) == [*KNOWN, 'x'] and list(KNOWN)[0] == 'ViTDet-B'
    with pytest.raises(UserError, match='ViTDet-B'):
        names_of([])
    known = KNOWN['InternImage-H']
    assert 1.1e9 < PlannedModel(load_config(known.config, list(known.options)), known.shape).sizes.parameters < 1.3e9


def test_command(tmp_path, capsys):
    page, results = tmp_path / 'page.md', tmp_path / 'new' / 'plan.json'
    words = ['vit-tiny_50e_plant-seedlings', '--shape', '64', '--cfg-options', 'model.backbone.arch.depth=1',
             'model.backbone.propagation_indexes=(0,)']
    assert main(['--plan', *words, '--markdown', str(page), '--json', str(results)]) == 0
    text, (plan,) = page.read_text(), json.loads(results.read_text())
    assert text.count('\n## ') == 6 and 'computed, not measured' in text and plan['computed'] is True
    assert len(plan['variants']) == 4
    for variant in plan['variants']:
        memory = [each['memory_ddp'] for each in variant['by_batch']]
        assert memory == sorted(memory) and len(memory) == 5
    assert f'wrote {page}' in capsys.readouterr().out


def test_mistakes(capsys):
    assert main(['--plan', 'no-such-model']) == 2
    assert 'no-such-model' in capsys.readouterr().err
    assert main([str(CONFIG), '--markdown', 'x.md']) == 2
    assert 'add --plan' in capsys.readouterr().err
    assert main(['--plan', str(CONFIG), '--shape', '60']) == 2
    error = capsys.readouterr().err
    assert 'cannot be counted' in error and 'patch_size' in error
