"""The small ConvNeXt on a custom folder, <root>/{train,val}/<class>/<image>, in $IMAGE_FOLDER_ROOT."""

_base_ = ['convnext-mini_64e_plant-seedlings.py', '../_base_/datasets/image_folder.py']

data_root, classes = _base_.folder_root, _base_.folder_classes
mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]  # ImageNet's; yours: vitdet mean-std

model = dict(_base_.folder_model,
             data_preprocessor=dict(_base_.folder_model.data_preprocessor, mean=mean, std=std))
common = _base_.folder_data
train_dataloader = dict(dataset=common)
val_dataloader = dict(dataset=common)
test_dataloader = val_dataloader
val_evaluator = _base_.folder_metrics
test_evaluator = val_evaluator
