"""Calls in a training step for which a GPU would have to be waited for."""

from pathlib import Path

import pytest

from tests.configs.test_training_step import shrunk
from tests.end_to_end.tiny_set import ROOT, write_tiny_set
from tests.engine.host_syncs import count_host_syncs
from vitdet_plugin.engine.loops import ResumableIterLoop
from vitdet_plugin.engine.process_state import restored_process_state
from vitdet_plugin.engine.runners import build_runner
from vitdet_plugin.engine.session import SessionOptions, load_session_config

# numbers that are on the host also in a training on a GPU
ON_THE_HOST = ('mmengine.model.averaged_model', 'mmengine.model.utils:stack_batch')


@pytest.fixture(scope='module')
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp('syncs')
    cfg = shrunk('vitdet/mask-rcnn_vitdet-b_lsj-100e_coco.py', write_tiny_set(folder / 'set'), 'coco.json')
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=3)
    for split in ('val', 'test'):
        cfg[f'{split}_dataloader'] = cfg[f'{split}_cfg'] = cfg[f'{split}_evaluator'] = None
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False, batch_size=2)
    cfg.custom_hooks = [dict(type='EMAHook')]
    cfg.optim_wrapper.optimizer.fused, cfg.optim_wrapper.clip_grad = True, dict(max_norm=1.0)
    cfg.default_hooks.update(nonfinite_loss=dict(type='NonFiniteLossHook', interval=10),
                             runtime_info=dict(type='DeferredInfoHook', defers=True))
    run_iter, found = ResumableIterLoop.run_iter, {}

    def counted(loop, batch):
        if loop.iter != 1:
            return run_iter(loop, batch)
        with count_host_syncs() as calls:
            run_iter(loop, batch)
        found.update(calls)

    with pytest.MonkeyPatch.context() as patch, restored_process_state():
        patch.setattr(ResumableIterLoop, 'run_iter', counted)
        build_runner(load_session_config(cfg, SessionOptions(work_dir=folder / 'w', launcher='none'))).train()
    return found


def test_this_project_waits_once_for_the_boxes_of_the_masks(found):
    ours = {key: count for key, count in found.items() if key[0].startswith(('vitdet_plugin', 'ops_dcnv3'))}
    masks = 'vitdet_plugin.heads.detectron2_mask_head:get_targets'
    assert ours == {(masks, 'cpu'): 1, (masks, 'numpy'): 1}


def test_the_loop_and_the_optimizer_do_not_wait(found):
    others = {where for where, _ in found if not where.startswith(('vitdet_plugin', 'mmdet'))}
    assert {where for where in others if not where.startswith(ON_THE_HOST)} <= {'mmengine.structures.instance_data:'
                                                                                '__getitem__'}


def test_those_of_mmdet_are_documented(found):
    text = Path(ROOT / 'docs' / 'training.md').read_text(encoding='utf-8')
    modules = {where.partition(':')[0].rpartition('.')[2] for where, _ in found if where.startswith('mmdet')}
    assert len(modules) > 5
    assert [name for name in sorted(modules) if f'`{name}`' not in text] == []
