"""InternImage-T, Mask2Former, COCO instances, 50 epochs of large-scale jitter: a proposal, not trained here."""

_base_ = 'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py'

custom_imports = dict(imports=['vitdet_plugin'], allow_failed_imports=False)
data_root = '{{$VITDET_DATA:data}}/coco/'

model = dict(
    backbone=dict(
        _delete_=True,
        type='InternImage',
        arch='tiny',
        layer_scale=1.0,  # the classification weights of T have none; 1.0 has no effect
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='internimage_t_1k_224')),
    panoptic_head=dict(in_channels=[64, 128, 256, 512]))

train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator

# 50 ep = 50 x 118,000 images = 368,750 it x 16 images, rate / 10 at 8 / 9 and 26 / 27 of them
max_iters = 50 * 118_000 // 16
param_scheduler = [dict(type='MultiStepLR', begin=0, end=max_iters, by_epoch=False, gamma=0.1,
                        milestones=[round(max_iters * part) for part in (8 / 9, 26 / 27)])]
# mmdet's recipe: AdamW 1e-4, a tenth of it for the backbone; norms, biases and embeddings of queries do not decay
_queries = dict(decay_mult=0.0)
optim_wrapper = dict(constructor='LayerWiseDecayConstructor', paramwise_cfg=dict(
    _delete_=True, backbone_lr_mult=0.1,
    custom_keys=dict(query_embed=_queries, query_feat=_queries, level_embed=_queries)))
default_hooks = dict(logger=dict(type='ProgressHook', interval=50), checkpoint=dict(max_keep_ckpts=2, save_best='auto'))
