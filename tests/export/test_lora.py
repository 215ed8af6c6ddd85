"""Export of a model with updates of low rank: the file has the merged weights."""

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from tests.backbones.registered import disturb
from tests.datasets.tiny_classes import write_class_folders
from tests.visualization.tiny_folder_classifier import write_classifier
from vitdet_plugin.engine.load_model import load_model
from vitdet_plugin.export.onnx import export_onnx
from vitdet_plugin.layers.lora import has_lora

onnx = pytest.importorskip('onnx', reason='the extra "onnx" is not installed')
pytest.importorskip('onnxscript', reason='the extra "onnx" is not installed')
pytest.importorskip('onnxruntime', reason='the extra "onnx" is not installed')


def test_the_file_of_a_classifier_has_merged_weights(tmp_path):
    init_default_scope('mmpretrain')
    path, _ = write_classifier(tmp_path, write_class_folders(tmp_path / 'set', per_class=1))
    cfg = Config.fromfile(path)
    cfg.model.backbone = dict(type='TimmViTDet', model='vit_small_patch14_dinov2', patch_size=8, window_size=0,
                              out_type='cls_avg', lora=dict(rank=3),
                              model_args=dict(depth=2, embed_dim=32, num_heads=2, img_size=56))
    cfg.model.head = dict(type='VectorClsHead', num_classes=cfg.model.head.num_classes, in_channels=64)
    loaded = load_model(cfg, None, 'cpu', expects_random=True)
    disturb(loaded.model.backbone)
    assert has_lora(loaded.model.state_dict())
    assert export_onnx(loaded, tmp_path / 'merged.onnx', (32, 48)) < 1e-4  # compared with the model before merging
    assert not any('lora' in each.name for each in onnx.load(tmp_path / 'merged.onnx').graph.initializer)
