"""One file for batches of any number and size of images, compared with mmdet's predict."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config

from tests.backbones.small_configs import small_cfg
from tests.end_to_end.tiny_set import CONFIG
from tests.export.test_detectors import load, mask_rcnn
from vitdet_plugin.backbones.timm_vitdet import TimmViTDet
from vitdet_plugin.backbones.vision_lstm import VisionLSTM
from vitdet_plugin.errors import UserError
from vitdet_plugin.export.comparison import difference_of_rows, predict_detections
from vitdet_plugin.export.modules import Preprocess
from vitdet_plugin.export.references import build_module

runtime = pytest.importorskip('onnxruntime', reason='the extra "onnx" is not installed')
pytest.importorskip('onnxscript', reason='the extra "onnx" is not installed')


def one_map(backbone, **options):
    """Load a detector with a map of one stride of this backbone, for files of the maps."""
    neck = dict(type='SimpleFeaturePyramid', in_channels=32, out_channels=16, scale_factors=(1.0,), num_outs=1)
    return load(backbone=dict(type=backbone.__name__, **small_cfg(backbone), **options), neck=neck,
                bbox_head=dict(type='FCOSHead', num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1,
                               norm_cfg=None),
                test_cfg=dict(nms_pre=10, max_per_img=5, nms=dict(type='nms', iou_threshold=0.5)))


def test_mask_rcnn(tmp_path):
    """Sizes with padding, with fewer anchors than ``nms_pre`` in a level and with a single cell in one."""
    from vitdet_plugin.export.onnx import export_onnx
    loaded = mask_rcnn()
    threshold = loaded.model.roi_head.test_cfg.mask_thr_binary
    assert export_onnx(loaded, tmp_path / 'd.onnx', (64, 96), dynamic=('batch', 'size'), masks='image') < 1e-4
    session = runtime.InferenceSession(str(tmp_path / 'd.onnx'), providers=['CPUExecutionProvider'])
    about = session.get_modelmeta().custom_metadata_map
    assert (about['dynamic'], about['divisor'], about['masks']) == ('["batch", "size"]', '32', '"image"')
    for shape in ((1, 3, 33, 50), (3, 3, 100, 70), (2, 3, 160, 128)):
        images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape).astype(np.float32))
        found = session.run(None, dict(image=images.numpy()))
        assert found[3].shape == (shape[0], found[0].shape[1], *shape[2:]) and found[3].dtype == np.uint8
        for i, expected in enumerate(predict_detections(loaded.model, images)):
            assert len(expected[0]) > 3
            rows = [part[i] for part in found]
            assert difference_of_rows(rows, expected, max(shape[2:]), steps=255, threshold=255 * threshold) < 1e-4


def test_what_is_refused():
    loaded = load()
    with pytest.raises(UserError, match="dynamic='width' is unknown; choose from batch, size"):
        build_module(loaded, (64, 96), dynamic=('width',))
    with pytest.raises(UserError, match="masks='pixels' is unknown; choose from boxes, image"):
        build_module(loaded, (64, 96), masks='pixels')
    loaded.model.roi_head.test_cfg.mask_thr_binary = -1
    with pytest.raises(UserError, match='Set model.test_cfg.rcnn.mask_thr_binary to a number from 0 to 1'):
        build_module(loaded, (64, 96), masks='image')
    divisor = Config.fromfile(CONFIG).model.backbone.patch_size
    loaded.model.data_preprocessor.pad_size_divisor = 1
    with pytest.raises(UserError, match=f'pad_size_divisor is 1. Add --cfg-options .*pad_size_divisor={divisor}'):
        build_module(loaded, (64, 96), dynamic=('size',))


def test_prefix_tokens_in_windows(tmp_path):
    """The number of windows and of images vary, and every window of an image has its class and register tokens."""
    from vitdet_plugin.export.onnx import export_onnx
    loaded = one_map(TimmViTDet)
    assert export_onnx(loaded, tmp_path / 'd.onnx', (64, 96), features=True, dynamic=('batch', 'size')) < 1e-4


@pytest.mark.parametrize('kind', ['2d', 'causal1d'])
def test_padding_of_vision_lstm_is_found_in_the_graph(tmp_path, kind):
    """Images that the caller pads to the size of a file, with the value that the file states."""
    from vitdet_plugin.export.onnx import export_onnx
    loaded = one_map(VisionLSTM, mask_padding=True, conv_kind=kind)
    export_onnx(loaded, tmp_path / 'd.onnx', (64, 96), features=True)
    session = runtime.InferenceSession(str(tmp_path / 'd.onnx'), providers=['CPUExecutionProvider'])
    value = json.loads(session.get_modelmeta().custom_metadata_map['padding'])
    image = np.float32(value)[:, None, None] * np.ones((1, 3, 64, 96), np.float32)
    image[..., :48, :60] = np.random.default_rng(0).integers(0, 256, (1, 3, 48, 60))
    found = session.run(None, dict(image=image))
    with torch.no_grad():
        images = Preprocess(loaded.model)(torch.from_numpy(image))
        expected = loaded.model.extract_feat(images)
        loaded.model.backbone.mask_padding = False
        other = loaded.model.extract_feat(images)
    for ours, theirs, unmasked in zip(found, expected, other, strict=True):
        assert np.abs(ours - theirs.numpy()).max() < 1e-4 < np.abs(ours - unmasked.numpy()).max()


def test_beit_is_refused_with_its_reason():
    net = dict(family='Beit', embed_dim=32, depth=2, num_heads=2, use_rel_pos_bias=True, use_abs_pos_emb=False)
    backbone = TimmViTDet(model=net, img_size=64, patch_size=16, window_size=2, global_block_indexes=[1]).eval()
    sizes = {2: torch.export.Dim('height', min=2, max=64) * 16, 3: torch.export.Dim('width', min=2, max=64) * 16}
    with pytest.raises(UserError, match="BEiT's relative positions are fitted to one grid of patches: export a fixed"):
        torch.export.export(backbone, (torch.zeros(2, 3, 128, 96),), dynamic_shapes=(sizes,), strict=False)
