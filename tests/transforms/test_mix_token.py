"""MixToken's data preprocessor: boxes, metadata, equality with ``ClsDataPreprocessor``, and the deprecated key."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from tests.backbones.test_volo import ARCH
from vitdet_plugin.backbones.volo import MixedImages
from vitdet_plugin.config.loading import load_config
from vitdet_plugin.transforms.mix_token import MixTokenDataPreprocessor, draw_box

SETTINGS = dict(mean=[1.0, 2.0, 3.0], std=[2.0, 3.0, 4.0], to_rgb=True)


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmpretrain')
    import mmpretrain.models  # noqa: F401


def batch(height=64, width=40):
    from mmpretrain.structures import DataSample
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (2, 3, height, width), generator=generator, dtype=torch.uint8)
    return dict(inputs=list(images), data_samples=[DataSample().set_gt_label(label) for label in (1, 0)])


def test_boxes_lie_on_the_grid_and_their_share_is_nearly_uniform():
    torch.manual_seed(0)
    boxes = torch.tensor([draw_box(14, 20) for _ in range(2000)])
    top, bottom, left, right = boxes.T
    assert (0 <= top).all() and (top <= bottom).all() and (bottom <= 14).all() and (right <= 20).all()
    assert (left <= right).all() and 12 <= (bottom - top).max() <= 14
    shares = ((bottom - top) * (right - left)).double() / 280
    assert 0.25 < shares.mean() < 0.40  # 1/2 before the boxes are clipped at the edges


def test_boxes_of_a_seed_do_not_change():
    torch.manual_seed(5)
    assert [draw_box(6, 6) for _ in range(3)] == [(0, 1, 0, 2), (1, 3, 3, 5), (3, 6, 0, 3)]


def test_in_training_the_box_is_drawn_on_the_padded_grid_and_stored():
    torch.manual_seed(3)
    result = MixTokenDataPreprocessor(**SETTINGS)(batch(), True)
    torch.manual_seed(3)
    box = draw_box(4, 3)  # 40 pixels are 3 columns of 16
    assert isinstance(result['inputs'], MixedImages) and result['inputs'].box == box
    assert [sample.mix_box for sample in result['data_samples']] == [box, box]


@pytest.mark.parametrize('training', [True, False])
def test_images_and_labels_are_those_of_the_usual_preprocessor(training):
    usual = MODELS.build(dict(type='ClsDataPreprocessor', **SETTINGS))(batch(), training)
    result = MixTokenDataPreprocessor(**SETTINGS)(batch(), training)
    images = result['inputs'].images if training else result['inputs']
    assert torch.equal(images, usual['inputs'])
    assert [sample.gt_label.item() for sample in result['data_samples']] == [1, 0]
    assert training or 'mix_box' not in result['data_samples'][0]


def test_attributes_device_and_state_dict_are_those_of_the_usual_preprocessor():
    module = MixTokenDataPreprocessor(**SETTINGS)
    assert module.mean.flatten().tolist() == SETTINGS['mean'] and module.to_rgb is True
    assert not module.state_dict()  # checkpoints with and without it are the same
    with pytest.raises(AttributeError):
        getattr(module, 'nothing')  # noqa: B009
    model = MODELS.build(dict(
        type='ImageClassifier', backbone=dict(type='VOLO', arch=ARCH, img_size=64),
        data_preprocessor=dict(type='MixTokenDataPreprocessor', **SETTINGS),
        head=dict(type='VOLOClsHead', num_classes=3, in_channels=32, num_heads=4))).to('meta')
    assert model.data_preprocessor.images.device.type == 'meta'


@pytest.mark.parametrize('where', ['model', 'top', 'nowhere'])
def test_the_deprecated_key_of_the_backbone_still_works(tmp_path, capsys, where):
    settings = dict(type='ClsDataPreprocessor', mean=[1.0] * 3, std=[2.0] * 3)
    cfg = dict(default_scope='mmpretrain', model=dict(type='ImageClassifier', backbone=dict(
        type='VOLO', arch='d1', mix_token=True), head=dict(type='VOLOClsHead', num_classes=3)))
    if where != 'nowhere':
        (cfg if where == 'top' else cfg['model'])['data_preprocessor'] = settings
    path = tmp_path / 'old.py'
    Config(cfg).dump(path)
    loaded = load_config(str(path))
    holder = loaded if where == 'top' else loaded.model
    assert holder.data_preprocessor.type == 'MixTokenDataPreprocessor' and 'mix_token' not in loaded.model.backbone
    assert where == 'nowhere' or holder.data_preprocessor.mean == [1.0] * 3
    assert capsys.readouterr().out.count('mix_token is deprecated') == 1
