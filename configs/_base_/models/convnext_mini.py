"""A narrow ConvNeXt for a CPU, 0.6 M parameters: ``backbone=dict(out_indices=…, **_base_.convnext_mini)``."""

mini_dims = [32, 64, 96, 160]
convnext_mini = dict(type='ConvNeXtBackbone', arch=dict(depths=(1, 1, 3, 1), dims=tuple(mini_dims)),
                     layer_scale_init_value=1.0)
