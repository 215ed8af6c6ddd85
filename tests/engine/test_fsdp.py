"""FSDP on one rank; tests/end_to_end/test_ranks.py compares two ranks with data-parallel training."""

import pytest
import torch
from torch import nn

from tests.backbones.registered import BACKBONES, tiny
from tests.end_to_end.forked_ranks import run_forks, train_ranks
from tests.end_to_end.tiny_set import CONFIG
from vitdet_plugin.engine.fsdp import FullyShardStrategy, gather, map_tensors, shard
from vitdet_plugin.errors import UserError

RULES = ("optim_wrapper = dict(constructor='LayerWiseDecayConstructor', optimizer=dict(weight_decay=0.1), "
         "clip_grad=dict(max_norm=1.0), paramwise_cfg=dict(layer_decay_rate=0.7, no_decay='plain'))\n"
         'train_cfg = dict(max_epochs=1)\n')


@pytest.fixture
def write(tiny_set, tmp_path, monkeypatch):
    """Return a function that writes a config with layer decay, for runs of one rank."""
    monkeypatch.setenv('TINY_SET', str(tiny_set))

    def write(name, strategy):
        path = tmp_path / f'{name}.py'
        path.write_text(f'_base_ = {str(CONFIG)!r}\n{strategy}\n{RULES}')
        return str(path)
    return write


def run(*args):
    """Train in a process of its own: DTensor's caches keep the process group of the first training."""
    result = train_ranks(*args, '--no-validate', ranks=1)
    assert result.returncode == 0, result.stderr[-3000:]


def load(path):
    return torch.load(path, weights_only=False)


def test_a_run_continues_with_and_without_sharding(write, tmp_path):
    sharded, plain = write('sharded', "strategy = dict(type='FSDPStrategy')"), write('plain', '')
    work = tmp_path / 'work'
    run(sharded, '--work-dir', str(work))
    saved = load(work / 'epoch_1.pth')
    groups = saved['optimizer']['param_groups']
    decayed = {name for group in groups if group['weight_decay'] for name in group['param_names']}
    assert 'backbone.blocks.0.mlp.fc1.weight' in decayed and 'backbone.blocks.0.mlp.fc1.bias' not in decayed
    scales = {name: group['lr_scale'] for group in groups for name in group['param_names']}
    assert scales['backbone.blocks.0.mlp.fc1.weight'] == pytest.approx(0.7 ** 2)
    assert scales['rpn_head.rpn_cls.weight'] == 1
    for config, epoch in ((plain, 2), (sharded, 3)):
        run(config, '--work-dir', str(work), '--resume', '--amp', '--cfg-options', f'train_cfg.max_epochs={epoch}')
    last = load(work / 'epoch_3.pth')
    assert last['meta']['iter'] == 9
    assert {type(value) for value in last['state_dict'].values()} == {torch.Tensor}
    assert all(float(state['step']) == 9 for state in last['optimizer']['state'].values())


def test_a_folder_holds_what_a_file_does(write, tmp_path):
    strategy = "strategy = dict(type='FSDPStrategy', state_dict_cfg='{}')"
    for name in ('full', 'sharded'):
        run(write(name, strategy.format(name)), '--work-dir', str(tmp_path / name))
    folder = tmp_path / 'sharded' / 'epoch_1.pth'
    assert sorted(each.name for each in folder.iterdir()) == ['.metadata', '__0_0.distcp', 'content.pth']
    from vitdet_plugin.checkpoints.sharded import load_sharded
    whole, parts = load(tmp_path / 'full' / 'epoch_1.pth'), load_sharded(folder)
    assert whole['state_dict'].keys() == parts['state_dict'].keys()
    for part in ('state_dict', 'optimizer'):
        for one, other in zip(tensors_of(whole[part]), tensors_of(parts[part]), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)
    for name in ('full', 'sharded'):
        run(str(tmp_path / f'{name}.py'), '--work-dir', str(tmp_path / name), '--resume', '--cfg-options',
            'train_cfg.max_epochs=2')
    whole, parts = load(tmp_path / 'full' / 'epoch_2.pth'), load_sharded(tmp_path / 'sharded' / 'epoch_2.pth')
    for name, value in whole['state_dict'].items():
        torch.testing.assert_close(value, parts['state_dict'][name], rtol=0, atol=0, msg=name)


def test_official_weights_are_loaded_before_the_model_is_sharded(write, write_mae, tmp_path):
    path, weights = write_mae()
    run(write('sharded', "strategy = dict(type='FSDPStrategy')"), '--work-dir', str(tmp_path / 'work'),
        '--load-from', path, '--cfg-options', 'optim_wrapper.optimizer.lr=0.0',
        'optim_wrapper.optimizer.weight_decay=0.0')
    trained = load(tmp_path / 'work' / 'epoch_1.pth')['state_dict']
    for name in ('patch_embed.proj.weight', 'blocks.1.mlp.fc2.bias'):
        assert trained[f'backbone.{name}'].equal(weights[name])


def tensors_of(state):
    found = []
    map_tensors(state, found.append)
    return found


def shard_and_compare(words):
    """Print the number of units of each backbone; outputs and gradients are those without sharding."""
    import copy

    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule

    from tests.backbones.registered import image
    torch.distributed.init_process_group('gloo')
    mesh = init_device_mesh('cpu', (1,))
    for cls in BACKBONES:
        plain = tiny(cls, drop_path_rate=0.0).train()
        model = shard(copy.deepcopy(plain), mesh)
        x, results = image(plain), []
        for each in (plain, model):
            outs = each(x)
            sum(out.square().mean() for out in outs).backward()
            results.append([*outs, *(gather(p.grad) for p in each.parameters())])
        torch.testing.assert_close(results[1], results[0], atol=1e-4, rtol=1e-4)
        print(cls.__name__, sum(isinstance(module, FSDPModule) for module in model.modules()) - 1)


def test_every_backbone_is_sharded_by_its_blocks():
    done = run_forks(shard_and_compare, [], ranks=1)
    assert done.returncode == 0, done.stderr[-3000:]
    units = dict(line.split() for line in done.stdout.splitlines() if len(line.split()) == 2)
    assert units == {cls.__name__: str(len(tiny(cls).repeated_blocks())) for cls in BACKBONES}


def test_a_model_without_units_is_refused():
    with pytest.raises(UserError, match='strategy: Linear has no lists named blocks to shard one by one; set strategy'):
        shard(nn.Linear(2, 2), None)
    with pytest.raises(UserError, match='strategy: Linear has no modules of class Block or Bottleneck to shard'):
        shard(nn.Linear(2, 2), None, ('Block', 'Bottleneck'))


def test_parameters_without_dimensions_are_refused():
    model = nn.Module()
    model.scale = nn.Parameter(torch.tensor(1.0))
    with pytest.raises(UserError, match='cannot shard scale'):
        shard(model, None)


@pytest.mark.parametrize('options, message', [
    (dict(model_wrapper=dict(auto_wrap_policy=1)), 'strategy.model_wrapper is an argument of FSDP1'),
    (dict(state_dict_cfg='half'), "state_dict_cfg='half': choose full or sharded"),
    (dict(param_dtype='int8'), "param_dtype='int8': choose bf16, fp16 or fp32"),
    pytest.param(dict(cpu_offload=True), 'cpu_offload=True keeps the weights of a GPU in main memory, but there is no',
                 marks=pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')),
])
def test_unusable_arguments(options, message):
    with pytest.raises(UserError, match=message):
        FullyShardStrategy(**options)


def test_weights_gathered_in_bfloat16(write, tmp_path):
    """Weights in checkpoints stay float32, and are nearly those of a run without the option."""
    for name, given in (('plain', ''), ('saving', "param_dtype='bf16', reduce_dtype='fp32'")):
        run(write(name, f"strategy = dict(type='FSDPStrategy', {given})"), '--work-dir', str(tmp_path / name))
    plain, saving = (load(tmp_path / name / 'epoch_1.pth') for name in ('plain', 'saving'))
    for name, value in plain['state_dict'].items():
        assert saving['state_dict'][name].dtype == value.dtype
        torch.testing.assert_close(saving['state_dict'][name], value, rtol=0, atol=5e-3, msg=name)
    assert len(saving['optimizer']['state']) == len(plain['optimizer']['state'])
