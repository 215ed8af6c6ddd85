"""ViL-T, Mask R-CNN, COCO: each level of the pyramid from a different depth instead of all from the last map."""

_base_ = 'mask-rcnn_vil-t_sfp_lsj-100e_coco.py'

# block pairs 3, 5, 7 and 11: deconvolved twice, deconvolved, unchanged, pooled
model = dict(backbone=dict(out_indices=(7, 11, 15, 23)), neck=dict(in_channels=[192] * 4))
