"""DINOv2's ViT-S fine-tuned on a custom folder, <root>/{train,val}/<class>/<image>, in $IMAGE_FOLDER_ROOT: 8 ep."""

_base_ = ['dinov2-s_partial-8e_plant-seedlings.py', '../_base_/datasets/image_folder.py']

data_root, classes = _base_.folder_root, _base_.folder_classes
model = _base_.folder_model
common = _base_.folder_data
train_dataloader = dict(dataset=common)
val_dataloader = dict(dataset=common)
test_dataloader = val_dataloader
val_evaluator = _base_.folder_metrics
test_evaluator = val_evaluator
