"""Shared by all detectors: import of the plugin, logging, checkpoints."""

custom_imports = dict(imports=['vitdet_plugin'], allow_failed_imports=False)
default_scope = 'mmdet'

env_cfg = dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
               dist_cfg=dict(backend='nccl'))

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='ProgressHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2, save_best='auto'),
    nonfinite_loss=dict(type='NonFiniteLossHook', action='stop'),  # or 'skip': omit and count such steps
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='DetVisualizationHook'))

vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
visualizer = dict(type='DetLocalVisualizer', vis_backends=vis_backends, name='visualizer')
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=False)
log_level = 'INFO'
channels_last = None  # layout of convolutions; None: channels last on a GPU with --amp
load_from = None
resume = False
