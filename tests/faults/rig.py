"""Training runs of the tiny detector with state that is hard to resume: flips, drop path, EMA, accumulation."""

import json
import os
from pathlib import Path

import torch

from tests.end_to_end.tiny_set import CONFIG

TEXT = """_base_ = {base!r}
custom_imports = dict(imports=['vitdet_plugin', 'tests.faults.watch'], allow_failed_imports=False)
custom_hooks = [dict(type='WatchHook'), dict(type='EMAHook', momentum=0.1), *{hooks!r}]
model = dict(backbone=dict(drop_path_rate=0.3))
pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion'), dict(type='PackDetInputs')]
for_set = dict(data_root={data!r})
train_dataloader = dict(num_workers={workers}, persistent_workers={workers} > 0, dataset=dict(
    **for_set, pipeline=pipeline), {loader})
val_dataloader = dict(num_workers={workers}, dataset=for_set)
val_evaluator = dict(ann_file={data!r} + '/coco.json', metric='bbox')
test_dataloader = val_dataloader
test_evaluator = val_evaluator
{rest}
"""
EPOCHS = 'train_cfg = dict(max_epochs={}, val_interval=1)\n'
SHARDED = """strategy = dict(type='FSDPStrategy')
custom_hooks = [hook for hook in custom_hooks if hook['type'] != 'EMAHook']
optim_wrapper = dict(constructor='LayerWiseDecayConstructor', optimizer=dict(weight_decay=0.1),
                     paramwise_cfg=dict(layer_decay_rate=0.7, no_decay='plain'))
"""
STEPS = ("train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters={}, val_interval=3)\n"
         "default_hooks = dict(checkpoint=dict(by_epoch=False, interval=3))\n")


def write_config(path: Path, data: Path, rest: str = '', hooks: tuple = (), workers: int = 0, loader: str = '') -> Path:
    """Write a config of a run; returns ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f'.{os.getpid()}')  # several ranks write the same file
    part.write_text(TEXT.format(base=str(CONFIG), data=str(data), hooks=list(hooks), workers=workers, rest=rest,
                                loader=loader))
    return part.replace(path)


def train_here(config: Path, work_dir: Path, **options):
    """Train within this process; returns the runner."""
    from vitdet_plugin.engine.train import TrainOptions, train
    return train(str(config), TrainOptions(**{'work_dir': str(work_dir), 'skip_preflight': True, **options}))


def steps_of(work_dir: Path, rank: int = 0) -> dict[int, list]:
    """Return the records of WatchHook by step; repeated steps (before and after a crash) must be equal."""
    records: dict[int, list] = {}
    for line in (work_dir / f'watch_rank{rank}.jsonl').read_text().splitlines():
        step, *rest = json.loads(line)
        assert records.setdefault(step, rest) == rest, f'step {step} of rank {rank} differs after a restart'
    return records


def assert_same_run(first: Path, second: Path, ranks: int = 1) -> None:
    """Check that every step on every rank and the last checkpoint are bitwise equal."""
    for rank in range(ranks):
        assert steps_of(first, rank) == steps_of(second, rank)
    names = [Path(os.path.basename((each / 'last_checkpoint').read_text())) for each in (first, second)]
    assert names[0] == names[1]
    contents = [torch.load(each / names[0], weights_only=False) for each in (first, second)]
    for key in ('state_dict', 'optimizer', 'ema_state_dict', 'param_schedulers', 'position'):
        assert_equal(contents[0].get(key), contents[1].get(key), key)
    logs = [{name: value.data[0] for name, value in each['message_hub']['log_scalars'].items() if 'loss' in name}
            for each in contents]
    assert_equal(*logs, 'log')


def assert_equal(first, second, where: str) -> None:
    assert type(first) is type(second), where
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_equal(first[key], second[key], f'{where}.{key}')
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), where
        for index, pair in enumerate(zip(first, second)):
            assert_equal(*pair, f'{where}.{index}')
    elif isinstance(first, torch.Tensor):
        assert first.dtype == second.dtype and torch.equal(first, second), where
    elif hasattr(first, 'tolist'):
        assert first.tolist() == second.tolist(), where
    else:
        assert first == second, where
