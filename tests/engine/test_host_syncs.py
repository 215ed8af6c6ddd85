"""Calls in a training step for which a GPU would have to be waited for."""

import pytest

from tests.configs import test_internimage_recipes
from tests.configs.test_training_step import shrunk
from tests.end_to_end.tiny_set import write_tiny_set
from tests.engine.host_syncs import Counts, count_host_syncs
from vitdet_plugin.engine.loops import ResumableIterLoop
from vitdet_plugin.engine.process_state import restored_process_state
from vitdet_plugin.engine.runners import build_runner
from vitdet_plugin.engine.session import SessionOptions, load_session_config

IMAGES = 4
# numbers that are on the host also in a training on a GPU, and the operator for CPUs
ON_THE_HOST = ('mmengine.model.averaged_model', 'mmengine.model.utils:stack_batch',
               'vitdet_plugin.heads.roi_features:_levels', 'vitdet_plugin.ops.nms.__init__:_torchvision')
# one copy counts as `cpu`, and as `numpy` for the copy that is on the host
PROPOSALS = {('vitdet_plugin.heads.batched_rpn_head:_propose', 'tolist'): 1}
SAMPLES = 'vitdet_plugin.heads.deferred_sampler:resolve'


def counted_step(folder, recipe) -> Counts:
    """Train a small model for three steps; count those of the second one, without the parts that are on the host."""
    root = write_tiny_set(folder / 'set')
    cfg = (test_internimage_recipes.shrunk(recipe, root) if recipe.startswith('internimage')
           else shrunk(recipe, root, 'coco.json'))
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=3)
    for split in ('val', 'test'):
        cfg[f'{split}_dataloader'] = cfg[f'{split}_cfg'] = cfg[f'{split}_evaluator'] = None
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False, batch_size=IMAGES)
    cfg.custom_hooks = [dict(type='EMAHook')]
    cfg.optim_wrapper.optimizer.fused, cfg.optim_wrapper.clip_grad = True, dict(max_norm=1.0)
    cfg.default_hooks.update(nonfinite_loss=dict(type='NonFiniteLossHook', interval=10),
                             runtime_info=dict(type='DeferredInfoHook', defers=True))
    run_iter, counts = ResumableIterLoop.run_iter, Counts()

    def counted(loop, batch):
        if loop.iter != 1:
            return run_iter(loop, batch)
        model = loop.runner.model
        with pytest.MonkeyPatch.context() as patch, count_host_syncs(counts):
            for module, name in ((model.backbone, 'forward'), (model.neck, 'forward'),
                                 (model.rpn_head, 'loss_and_predict'), (model.roi_head, 'loss')):
                patch.setattr(module, name, counts.called_as(type(module).__name__, getattr(module, name)))
            run_iter(loop, batch)

    with pytest.MonkeyPatch.context() as patch, restored_process_state():
        patch.setattr(ResumableIterLoop, 'run_iter', counted)
        build_runner(load_session_config(cfg, SessionOptions(work_dir=folder / 'w', launcher='none'))).train()
    for key in [key for key in counts.waits if key[0].startswith(ON_THE_HOST)]:
        del counts.waits[key]
    return counts


@pytest.fixture(scope='module')
def found(tmp_path_factory):
    return counted_step(tmp_path_factory.mktemp('syncs'), 'vitdet/mask-rcnn_vitdet-b_lsj-100e_coco.py')


def test_a_step_waits_for_the_proposals_and_for_the_samples(found):
    """144 before the heads treated all images at once; a further wait is listed by file, function and kind."""
    waits = {key: count for key, count in found.waits.items() if key[0] != 'vitdet_plugin.engine.deferred_log:_flush'}
    assert waits == PROPOSALS | {(SAMPLES, 'cpu'): 1, (SAMPLES, 'numpy'): 1}


def test_operators_of_the_heads(found):
    """An upper bound; 962 and 511 before."""
    assert found.operators['BatchedRPNHead'] <= 400, found.operators
    assert found.operators['BatchedRoIHead'] <= 350, found.operators


def test_a_cascade_waits_twice_for_each_refinement(tmp_path):
    """279 before."""
    found = counted_step(tmp_path, 'vitdet/cascade-mask-rcnn_vitdet-b_lsj-100e_coco.py')
    waits = {key: count for key, count in found.waits.items() if key[0] != 'vitdet_plugin.engine.deferred_log:_flush'}
    areas = 'vitdet_plugin.heads.cascade_roi_head:_with_area'
    assert waits == PROPOSALS | {(SAMPLES, 'cpu'): 3, (SAMPLES, 'numpy'): 3, (areas, 'cpu'): 2, (areas, 'numpy'): 2}


@pytest.mark.parametrize(('recipe', 'stages'), [
    ('internimage/mask-rcnn_internimage-t_fpn_1x_coco.py', 1),
    ('internimage/cascade-mask-rcnn_internimage-l_fpn_1x_coco.py', 3),
    ('vitdet/mask-rcnn_vitdet-b_easycv-100e_coco.py', 1)])
def test_recipes_with_the_settings_of_mmdet_wait_for_proposals_and_samples(tmp_path, recipe, stages):
    """With bitmaps as masks in InternImage's."""
    found = counted_step(tmp_path, recipe)
    # the gradient of SmoothL1Loss makes zeros, on the device
    waits = {key: count for key, count in found.waits.items() if key[0] not in (
        'vitdet_plugin.engine.deferred_log:_flush', 'mmengine.optim.optimizer.optimizer_wrapper:backward')}
    assert waits == PROPOSALS | {(SAMPLES, 'cpu'): stages, (SAMPLES, 'numpy'): stages}
