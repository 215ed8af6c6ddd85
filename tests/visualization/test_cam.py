"""Heat maps of every registered backbone in a classifier, and of detected boxes."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from tests.backbones.registered import BACKBONES, image, tiny
from tests.datasets.tiny_classes import CLASSES, write_class_folders
from tests.end_to_end.tiny_set import CONFIG, load_tool, write_tiny_set
from tests.visualization.tiny_folder_classifier import write_classifier
from vitdet_plugin.backbones.timm_vitdet import TimmViTDet
from vitdet_plugin.backbones.vision_lstm import VisionLSTM
from vitdet_plugin.backbones.vitdet import ViTDet
from vitdet_plugin.errors import UserError
from vitdet_plugin.visualization.cam import METHODS, HeatMap, explain_boxes, explain_class
from vitdet_plugin.visualization.cam_layers import cam_layer
from vitdet_plugin.visualization.heat import draw_heat_maps, overlay

pytest.importorskip('pytorch_grad_cam', reason='the extra "cam" is not installed')


def classifier(backbone: nn.Module, channels: int) -> nn.Module:
    import mmpretrain.models  # noqa: F401
    init_default_scope('mmpretrain')
    model = MODELS.build(dict(type='ImageClassifier', backbone=dict(type='mmpretrain.ResNet', depth=18),
                              head=dict(type='LayerNormClsHead', num_classes=3, in_channels=channels)))
    model.backbone = backbone
    model.head.init_weights()
    with torch.no_grad():
        model.head.fc.weight.normal_(0, 1)
    return model.eval()


@pytest.mark.parametrize('cls', BACKBONES, ids=lambda cls: cls.__name__)
def test_every_backbone_gives_maps_that_depend_on_the_class(cls):
    backbone = tiny(cls, with_cp=True, frozen_stages=1)
    model = classifier(backbone, backbone.out_channels[-1])
    x = image(backbone, 3, 4, batch=1)
    before = model(x, mode='tensor').detach()
    heat_maps = explain_class(model, x, [0, 1, None])
    assert [each.map.shape for each in heat_maps] == [tuple(x.shape[2:])] * 3
    assert all(each.map.min() >= 0 and each.map.max() <= 1 for each in heat_maps)
    assert any(each.map.std() > 0 for each in heat_maps)
    assert np.abs(heat_maps[0].map - heat_maps[1].map).max() > 0.05
    assert heat_maps[2].label == before.argmax() and heat_maps[2].score == pytest.approx(float(before.softmax(1).max()))
    assert backbone.with_cp and not backbone._forward_hooks  # the model is restored
    assert torch.equal(model(x, mode='tensor'), before)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize('options', [dict(lora=dict(rank=2)), dict(frozen_stages=2, feature_cache='features')],
                         ids=['lora', 'cached'])
def test_heat_map_of_a_plain_vit_that_returns_vectors(options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # of the cache
    backbone = TimmViTDet('vit_small_patch14_dinov2', model_args=dict(depth=2, embed_dim=48, num_heads=3, img_size=112),
                          window_size=0, out_type='cls_avg', **options)
    model = classifier(backbone, 96)
    model.head = MODELS.build(dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=96))
    with torch.no_grad():
        model.head.fc.weight.normal_(0, 1)
    x = torch.randn(1, 3, 42, 56)
    model(x)
    heat_maps = explain_class(model, x, [0, 1])
    assert [each.map.shape for each in heat_maps] == [(42, 56)] * 2
    assert all(each.map.std() > 0 for each in heat_maps)
    assert np.abs(heat_maps[0].map - heat_maps[1].map).max() > 0.05


@pytest.mark.parametrize('pooling', ['bilateral_avg', 'bilateral_flatten'])
def test_heat_map_of_a_classifier_that_uses_the_end_tokens(pooling):
    """Vision-LSTM pools the first and last token only, so the other tokens of the last map have no gradient."""
    backbone = tiny(VisionLSTM, pooling=pooling)
    x = image(backbone, 2, 5, batch=1)
    heat_map, = explain_class(classifier(backbone, backbone.out_channels[-1]), x)
    assert heat_map.map.shape == tuple(x.shape[2:])
    module, as_map = cam_layer(backbone)
    outputs = []
    module.register_forward_hook(lambda _m, _i, output: outputs.append(output))
    backbone.eval()(x)
    assert as_map(outputs[-1], tuple(x.shape[2:])).shape == (1, backbone.embed_dim, 2, 5)
    middle = heat_map.map[:, x.shape[3] // 5:-x.shape[3] // 5]
    assert middle.max() > 0


def colored_squares(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return noise (N, 3, 64, 64) with a square whose color is the class, the classes (N,) and masks (N, 64, 64)."""
    random = torch.Generator().manual_seed(seed)
    images, inside = 0.6 * torch.randn(count, 3, 64, 64, generator=random), torch.zeros(count, 64, 64, dtype=bool)
    labels, corners = (torch.randint(high, shape, generator=random) for high, shape in ((3, (count,)), (5, (count, 2))))
    for i, (top, left) in enumerate((8 * corners).tolist()):
        inside[i, top:top + 24, left:left + 24] = True
        images[i, labels[i]] += 0.5 * inside[i]
    return images, labels, inside


def test_the_heat_map_of_a_trained_classifier_is_on_the_object():
    torch.manual_seed(0)
    backbone = ViTDet(dict(embed_dim=32, depth=4, num_heads=2), img_size=64, patch_size=8, window_size=0)
    model = classifier(backbone, 32).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(60):
        images, labels, _ = colored_squares(16, 1000 + step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images, mode='tensor'), labels).backward()
        optimizer.step()
    images, labels, inside = colored_squares(8, 0)
    assert (model.eval()(images, mode='tensor').argmax(1) == labels).all()
    heat_maps = [explain_class(model, image[None])[0].map for image in images]
    assert np.mean([heat_map[mask].mean() / heat_map.mean() for heat_map, mask in zip(heat_maps, inside.numpy())]) > 2


class Patches(nn.Module):
    """A backbone with two feature maps; the last one is the mean color of 8 x 8 patches."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return nn.functional.avg_pool2d(x, 4), nn.functional.avg_pool2d(x, 8)


@pytest.mark.parametrize('method', METHODS)
def test_the_heat_map_is_high_where_the_class_is(method):
    model = classifier(Patches(), 3)
    model.head = nn.Module()
    model.head.forward = lambda feats: feats[-1].clamp(min=0).square().mean((2, 3))  # class = color
    x = torch.zeros(1, 3, 32, 64)
    x[:, 1, :8, 40:56] = 2.0
    x[:, 0, 24:, :16] = 1.5
    heat_map, = explain_class(model, x, [1], method)
    assert heat_map.map.shape == (32, 64)
    highest = np.unravel_index(heat_map.map.argmax(), heat_map.map.shape)
    assert highest[0] < 12 and heat_map.map[:8, 42:54].min() > 0.4
    assert heat_map.map[20:, :20].max() < 0.3
    if method == 'centered':
        former, = explain_class(model, x, [1], 'centred')  # language: ok (former name)
        assert np.array_equal(former.map, heat_map.map)


def test_errors():
    model = classifier(Patches(), 3)
    with pytest.raises(UserError, match='Use one of centered, gradcam'):
        explain_class(model, torch.zeros(1, 3, 32, 32), method='fastcam')
    model.backbone = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model.head.forward = lambda feats: feats[-1]
    with pytest.raises(UserError, match='instead of feature maps'):
        explain_class(model, torch.zeros(1, 3, 32, 32))


@pytest.fixture(scope='module')
def detector():
    init_default_scope('mmdet')
    from mmdet.registry import MODELS as DETECTION
    torch.manual_seed(0)
    model = DETECTION.build(Config.fromfile(CONFIG).model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if 'norm' not in name:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def test_boxes_of_a_detector(detector):
    from mmdet.structures import DetDataSample
    sample = DetDataSample(metainfo=dict(img_shape=(64, 96), ori_shape=(64, 96), pad_shape=(64, 96), img_id=0,
                                         scale_factor=(1., 1.), batch_input_shape=(64, 96)))
    x = torch.randn(1, 3, 64, 96)
    heat_maps = explain_boxes(detector, x, sample, max_boxes=3, score_thr=0.0)
    assert len(heat_maps) == 3 and detector.roi_head.with_mask
    assert all(each.map.shape == (64, 96) and 0 < each.map.max() <= 1 for each in heat_maps)
    assert [each.score for each in heat_maps] == sorted((each.score for each in heat_maps), reverse=True)
    with torch.no_grad():
        found = detector.predict(x, [sample], rescale=False)[0].pred_instances
    best = found.scores.argmax()
    assert heat_maps[0].score == pytest.approx(float(found.scores[best])) and heat_maps[0].label == found.labels[best]
    np.testing.assert_allclose(heat_maps[0].box, found.bboxes[best].numpy(), atol=1e-3)
    assert explain_boxes(detector, x, sample, score_thr=2.0) == []


def test_overlay_changes_high_values_only():
    image = np.full((20, 30, 3), 100, np.uint8)
    values = np.zeros((20, 30), np.float32)
    values[:5, :5] = 1
    drawn = overlay(image, values).astype(int)
    assert np.abs(drawn[2, 2] - 100).max() > 60 > np.abs(drawn[15, 20] - 100).max()
    heat_maps = [HeatMap(values, 1, 0.5), HeatMap(values, 7, 0.2, np.array([2, 2, 9, 9]))]
    figure = draw_heat_maps(image, heat_maps, ['a', 'b' * 99], 't')
    assert figure.dtype == np.uint8 and figure.shape[1] > 2 * figure.shape[0]


def test_command_on_a_classifier(tmp_path, capsys):
    root = write_class_folders(tmp_path / 'a set', per_class=1)
    config, weights = write_classifier(tmp_path, root)
    command = load_tool('analysis/cam').main
    out = tmp_path / 'the maps'
    assert command([config, weights, str(root), '--out', str(out), '--classes', 'Maize', '0', '--device', 'cpu']) == 0
    assert sorted(str(path.relative_to(out)) for path in out.rglob('*.jpg')) == sorted(
        f'{name}/00.jpg' for name in CLASSES)
    assert cv2.imread(str(out / CLASSES[2] / '00.jpg')).std() > 10
    assert command([config, weights, str(root), '--out', str(out), '--classes', 'Mais']) == 2
    assert 'did you mean Maize' in capsys.readouterr().err


def test_command_on_a_detector(detector, tmp_path):
    write_tiny_set(tmp_path, images=1)
    torch.save(dict(state_dict=detector.state_dict()), tmp_path / 'w.pth')
    assert load_tool('analysis/cam').main([str(CONFIG), str(tmp_path / 'w.pth'), str(tmp_path / 'images' / '001.jpg'),
                                           '--out', str(tmp_path / 'out'), '--score-thr', '0', '--most', '2']) == 0
    assert cv2.imread(str(tmp_path / 'out' / '001.jpg')).std() > 10


def test_command_on_a_folder_of_a_training(detector, tmp_path, capsys):
    write_tiny_set(tmp_path, images=1)
    run = tmp_path / 'run'
    run.mkdir()
    torch.save(dict(state_dict=detector.state_dict()), run / 'epoch_1.pth')
    Config.fromfile(CONFIG).dump(run / 'config.py')
    command, image, out = load_tool('analysis/cam').main, str(tmp_path / 'images/001.jpg'), tmp_path / 'out'
    assert command([str(run), '--out', str(out), '--score-thr', '0', '--most', '1', image]) == 0
    assert (out / '001.jpg').is_file()
    assert command([str(tmp_path / 'model.onnx'), image, '--out', str(out)]) == 2
    assert 'model.onnx is an exported file' in capsys.readouterr().err
