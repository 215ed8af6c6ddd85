"""Two ranks with gloo: torchrun, two agents with one rank each, torch.distributed.launch, FSDP."""

import json
import os
import subprocess
import sys

import pytest
import torch

from tests.end_to_end.forked_ranks import _train, run_forks, train_ranks
from tests.end_to_end.tiny_set import CONFIG, ROOT, environment, free_port, load_tool, run_ranks
from vitdet_plugin.checkpoints.sharded import load_sharded


@pytest.fixture(scope='module')
def config(tiny_set, tmp_path_factory):
    """Write the tiny config with its dataset and a hook that saves the parameters of every rank."""
    path = tmp_path_factory.mktemp('config') / 'two_ranks.py'
    path.write_text(f"""_base_ = {str(CONFIG)!r}
custom_imports = dict(imports=['vitdet_plugin', 'tests.end_to_end.rank_dump'], allow_failed_imports=False)
custom_hooks = [dict(type='RankDumpHook')]
train_cfg = dict(max_epochs=1, val_interval=5)
optim_wrapper = dict(constructor='LayerWiseDecayConstructor', optimizer=dict(weight_decay=0.1),
                     paramwise_cfg=dict(layer_decay_rate=0.7, no_decay='plain'))
for_set = dict(data_root={str(tiny_set)!r})
train_dataloader = dict(dataset=for_set)
val_dataloader = dict(dataset=for_set)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file={str(tiny_set / 'coco.json')!r})
test_evaluator = val_evaluator
""")
    return path


@pytest.fixture(scope='module')
def two_ranks(config, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('two')
    result = run_ranks('train.py', config, '--work-dir', work_dir, '--launcher', 'pytorch')
    assert result.returncode == 0, result.stderr[-3000:]
    return work_dir, result.stdout


def assert_equal_parameters(first, second):
    first, second = torch.load(first), torch.load(second)
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0, msg=name)


def test_ranks_end_with_equal_parameters_and_one_prints(two_ranks):
    work_dir, output = two_ranks
    assert_equal_parameters(work_dir / 'rank0.pth', work_dir / 'rank1.pth')
    assert output.count('train 2/2') == 1
    initial = torch.load(work_dir / 'rank0.pth')['backbone.blocks.0.attn.rel_pos_h']
    assert initial.abs().max() > 0  # zero before the first step


def _train_at_own_rate(words):
    _train([*words, f'optim_wrapper.optimizer.lr=0.{os.environ["RANK"]}1'])


def test_other_settings_on_a_rank_are_an_error(config, tmp_path):
    words = [str(config), '--work-dir', str(tmp_path / 'work'), '--cfg-options']
    result = run_forks(_train_at_own_rate, words, ranks=2)
    assert result.returncode == 2
    assert 'error: optim_wrapper.optimizer.lr=0.01 on rank 0 and 0.11 on rank 1: start all' in result.stderr
    assert not (tmp_path / 'work').exists()


def test_two_agents_of_one_rank_train_the_same_model(config, two_ranks, tmp_path):
    port = str(free_port())
    agents = [subprocess.Popen(
        [str(ROOT / 'tools' / 'dist_train.sh'), str(config), '1', '--work-dir', str(tmp_path)], text=True,
        env=environment(NNODES='2', NODE_RANK=str(rank), MASTER_ADDR='127.0.0.1', PORT=port, PYTHON=sys.executable),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for rank in (0, 1)]
    outputs = [agent.communicate(timeout=240)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], outputs
    assert_equal_parameters(tmp_path / 'rank0.pth', tmp_path / 'rank1.pth')
    assert_equal_parameters(tmp_path / 'rank0.pth', two_ranks[0] / 'rank0.pth')


def test_evaluation_of_two_ranks_equals_one(config, two_ranks, tmp_path):
    """The sampler repeats one of seven images on two ranks, which must not be counted; uses the former launcher."""
    checkpoint = two_ranks[0] / 'epoch_1.pth'
    words = (config, checkpoint, '--eval', 'bbox', 'segm', '--out')
    one = load_tool('test').main([*map(str, words), f'{tmp_path}/one.json', '--work-dir', f'{tmp_path}/one'])
    two = run_ranks('test.py', *words, tmp_path / 'two.json', '--work-dir', tmp_path / 'two', '--launcher', 'pytorch',
                    '--show-dir', tmp_path / 'images', launcher='torch.distributed.launch')
    assert (one, two.returncode) == (0, 0), two.stderr[-2000:]
    found = [sorted(json.loads((tmp_path / name).read_text()), key=lambda each: (each['image_id'], -each['score']))
             for name in ('one.json', 'two.json')]
    assert len(found[0]) == len(found[1]) > 0
    for first, second in zip(*found):
        assert first['image_id'] == second['image_id'] and first['segmentation'] == second['segmentation']
        assert [*first['bbox'], first['score']] == pytest.approx([*second['bbox'], second['score']], abs=1e-9)
    assert len(list((tmp_path / 'images').glob('*.jpg'))) == 7  # drawn by both ranks
    metrics = [json.loads(next((tmp_path / name).glob('*/*.json')).read_text()) for name in ('one', 'two')]
    for name in ('coco/bbox_mAP', 'coco/bbox_mAP_50', 'coco/segm_mAP'):
        assert metrics[0][name] == pytest.approx(metrics[1][name], abs=1e-9)


def test_sharded_training_equals_data_parallel_training(config, two_ranks, tmp_path):
    sharded = tmp_path / 'fsdp.py'
    sharded.write_text(f"_base_ = {str(config)!r}\nstrategy = dict(type='FSDPStrategy')\ncustom_hooks = []\n")
    result = train_ranks(sharded, '--work-dir', tmp_path / 'work')
    assert result.returncode == 0, result.stderr[-3000:]
    whole, parts = (torch.load(path, weights_only=False) for path in (two_ranks[0] / 'epoch_1.pth',
                                                                      tmp_path / 'work' / 'epoch_1.pth'))
    assert whole['state_dict'].keys() == parts['state_dict'].keys()
    for name, value in whole['state_dict'].items():
        torch.testing.assert_close(parts['state_dict'][name], value, rtol=1e-5, atol=1e-6, msg=name)
    assert whole['optimizer']['param_groups'] == parts['optimizer']['param_groups']
    assert whole['optimizer']['state'].keys() == parts['optimizer']['state'].keys() and parts['optimizer']['state']
    for index, state in whole['optimizer']['state'].items():
        for kind, value in state.items():
            torch.testing.assert_close(parts['optimizer']['state'][index][kind], value, rtol=1e-4, atol=1e-8,
                                       msg=f'{kind} of {index}')


def test_a_folder_of_two_ranks_is_resumed_on_one(config, tmp_path):
    sharded = tmp_path / 'folders.py'
    sharded.write_text(f"_base_ = {str(config)!r}\nstrategy = dict(type='FSDPStrategy', state_dict_cfg='sharded')\n"
                       'custom_hooks = []\n')
    result = train_ranks(sharded, '--work-dir', tmp_path / 'work', '--no-validate')
    assert result.returncode == 0, result.stderr[-3000:]
    folder = tmp_path / 'work' / 'epoch_1.pth'
    assert {'__0_0.distcp', '__1_0.distcp', 'content.pth'} <= {each.name for each in folder.iterdir()}
    saved = load_sharded(folder)
    result = train_ranks(sharded, '--work-dir', tmp_path / 'work', '--no-validate', '--resume',
                       '--cfg-options', 'train_cfg.max_epochs=2', ranks=1)
    assert result.returncode == 0, result.stderr[-3000:]
    resumed = load_sharded(tmp_path / 'work' / 'epoch_2.pth')
    assert resumed['meta']['epoch'] == 2 and resumed['state_dict'].keys() == saved['state_dict'].keys()
    steps = [float(each['optimizer']['state'][0]['step']) for each in (saved, resumed)]
    assert steps[1] == 3 * steps[0]  # one rank makes twice as many steps in an epoch
