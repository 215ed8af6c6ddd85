"""Backbones and test options of EVA-02's detectors (arXiv 2303.11331): ``backbone=_base_.eva02_base`` in a config."""

eva02_base = dict(
    type='TimmViTDet',
    model='eva02_base_patch14_224',
    patch_size=16,
    img_size=224,  # table of absolute positions: 14 x 14
    positions='bicubic',
    prefix_tokens='drop',
    rope_in_windows='restart',  # every window has the rotary embeddings of a grid of its size
    window_size=16,  # blocks 2, 5, 8, 11 are global
    drop_path_rate=0.1,
    init_cfg=dict(type='Pretrained', checkpoint='eva02_b_pt_in21k_p14to16'))
eva02_large = dict(
    eva02_base,
    model='eva02_large_patch14_224',  # blocks 5, 11, 17, 23 are global
    drop_path_rate=0.4,
    with_cp=True,
    init_cfg=dict(type='Pretrained', checkpoint='eva02_l_pt_m38m_p14to16'))
eight_global_blocks = [2, 5, 8, 11, 14, 17, 20, 23]

# soft-NMS of each class with linear decay, and mask scores times maskness, as the figures at 1536 pixels
soft_nms_and_maskness = dict(nms=dict(type='soft_nms', iou_threshold=0.6, method='linear'), maskness_thr=0.5)
