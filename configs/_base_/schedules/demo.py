"""Schedule of the demo: AdamW at a rate of 1.5e-3 for all layers. A config adds ``max_iters`` and the scheduler."""

_base_ = 'vitdet_100e.py'

optim_wrapper = dict(
    optimizer=dict(lr=1.5e-3, weight_decay=0.05), paramwise_cfg=dict(layer_decay_rate=1.0, no_decay='plain'),
    clip_grad=dict(max_norm=5.0))
