"""``vitdet train --compile``: graphs, names of weights, averaged weights, exact resume."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch._dynamo.testing import CompileCounterWithBackend

from tests.configs.test_training_step import shrunk
from tests.end_to_end.tiny_set import write_tiny_set
from tests.faults.rig import EPOCHS, assert_same_run, train_here, write_config
from vitdet_plugin.cli.train import parse_args
from vitdet_plugin.engine.compiling import SharedDropPath, apply_compile, compile_regions
from vitdet_plugin.engine.load_model import build_dataset, build_model
from vitdet_plugin.errors import UserError


@pytest.fixture(scope='module')
def detector(tmp_path_factory):
    """Return a detector, a training batch, and a counter of the graphs of its compiled regions."""
    cfg = shrunk('vitdet/mask-rcnn_vitdet-b_lsj-100e_coco.py',
                 write_tiny_set(tmp_path_factory.mktemp('compile') / 'set', images=2), 'coco.json')
    cfg.model.backbone.update(arch=dict(embed_dim=32, depth=6, num_heads=2), with_cp=True, drop_path_rate=0.3)
    torch.manual_seed(0)
    torch._dynamo.reset()
    model = build_model(cfg).train()
    before, counter = list(model.state_dict()), CompileCounterWithBackend('aot_eager')
    names = compile_regions(model, backend=counter, fullgraph=True, dynamic=None)
    assert names == ['6 blocks of ViTDet', 'SimpleFeaturePyramid', 'BatchedRPNHead']
    assert list(model.state_dict()) == before
    dataset = build_dataset(cfg, 'train')
    return model, pseudo_collate([dataset[0], dataset[1]]), counter


def losses(model, batch):
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    with torch.autocast('cpu', torch.bfloat16):
        total, _ = model.parse_losses(model(**data, mode='loss'))
    return total


def test_no_graph_breaks_and_blocks_share_graphs(detector):
    model, batch, counter = detector  # a graph break is an error with fullgraph
    losses(model, batch).backward()
    assert all(p.grad is not None for p in model.backbone.parameters())
    # blocks: in windows without stochastic depth, in windows with it, global; neck; RPN
    assert counter.frame_count == 5
    losses(model, batch).backward()
    assert counter.frame_count == 5


def test_evaluation_and_copies_are_not_compiled(detector):
    model, _, counter = detector
    before = counter.frame_count
    model.eval()
    with torch.no_grad():
        first = model.extract_feat(torch.zeros(1, 3, 64, 128))
    model.train()
    other = copy.deepcopy(model)
    assert all(module._compiled_call_impl is None for module in other.modules())
    with torch.no_grad():
        second = other.eval().extract_feat(torch.zeros(1, 3, 64, 128))
    assert all(torch.equal(a, b) for a, b in zip(first, second)) and counter.frame_count == before


def test_stochastic_depth():
    torch.manual_seed(0)
    drop = SharedDropPath(0.25, True, torch.zeros(1))
    x = torch.ones(4000, 2, 3)
    found = drop(x)
    assert torch.equal(drop.eval()(x), x)
    kept = found[:, 0, 0] > 0
    assert torch.equal(found[kept], x[kept] / 0.75) and (found[~kept] == 0).all()
    assert 0.7 < kept.float().mean() < 0.8


def test_resume_is_exact(tiny_set, tmp_path):
    hook = dict(type='SignalHook', step=4)
    rest = EPOCHS.format(2) + 'model = dict(backbone=dict(drop_path_rate=0.3, with_cp=True))\n'
    for name, hooks in (('whole', ()), ('stopped', (hook,))):
        path = write_config(tmp_path / f'{name}.py', tiny_set, rest, hooks)
        train_here(path, tmp_path / name, compile='aot_eager', validate=False)
    train_here(path, tmp_path / 'stopped', compile='aot_eager', resume=True, validate=False)
    assert_same_run(tmp_path / 'whole', tmp_path / 'stopped')
    saved = torch.load(tmp_path / 'whole' / 'epoch_2.pth', weights_only=False)
    names = [*saved['state_dict'], *saved['ema_state_dict']]
    assert not [name for name in names if '_orig_mod' in name or 'keep' in name]
    assert 'compiled for training with aot_eager' in next((tmp_path / 'whole').glob('*/*.log')).read_text()


def test_options():
    assert parse_args(['--compile', 'c.py']).compile == 'auto'
    assert parse_args(['c.py', '--compile', 'aot_eager']).compile == 'aot_eager'
    assert parse_args(['c.py']).compile is None
    cfg = Config(dict(default_hooks=dict()))
    apply_compile(cfg, None)
    assert not cfg.default_hooks
    apply_compile(cfg, 'auto')
    assert cfg.default_hooks.compile.backend == 'inductor'
    cfg.strategy = dict(type='FSDPStrategy')
    with pytest.raises(UserError, match='--compile does not support strategy=FSDPStrategy'):
        apply_compile(cfg, 'inductor')
    with pytest.raises(UserError, match='--compile inducktor: unknown backend'):
        compile_regions(torch.nn.Linear(1, 1), backend='inducktor')
