"""ViTDet-H with weights, gradients and optimizer state sharded over the ranks: docs/distributed.md.

torchrun --nproc-per-node 8 -m vitdet_plugin train mask-rcnn_vitdet-h_lsj-75e-fsdp_coco

661.2 M parameters x 16 bytes (weight, gradient, two moments in float32) = 10.6 GB: 1.3 GB on each of 8 GPUs.
"""

_base_ = 'mask-rcnn_vitdet-h_lsj-75e_coco.py'

strategy = dict(type='FSDPStrategy')  # each block of the backbone is a unit
optim_wrapper = dict(type='AutocastOptimWrapper', dtype='bf16')
