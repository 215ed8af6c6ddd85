"""Round trips of published classifier files through the converter, for both kinds of files, are bit-equal.

Detectors and plain ViTs are in test_converter.py.
"""

import copy

import pytest
import torch
from safetensors.torch import load_file as load_safetensors
from safetensors.torch import save_file as save_safetensors
from torch import nn

from tests.checkpoints import internimage_names
from tests.checkpoints.test_convnext import FACEBOOK, MMPRETRAIN, OFFICIAL, renamed
from tests.checkpoints.test_convnext import classifier as convnext
from tests.checkpoints.test_internimage import LIKE_H, LIKE_S
from tests.checkpoints.test_internimage import classifier as internimage
from tests.checkpoints.test_vision_lstm import classifier as vision_lstm
from tests.checkpoints.test_volo import Classifier as volo
from tests.checkpoints.vision_lstm_names import in_training, published
from vitdet_plugin.checkpoints.converter import convert_checkpoint
from vitdet_plugin.checkpoints.official import load_official
from vitdet_plugin.checkpoints.recognition import known_formats


def build_volo(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return volo()


def volo_names(state: dict) -> dict:
    names = {'head.fc.weight': 'head.weight', 'head.fc.bias': 'head.bias'}
    return {names.get(name, name.split('.', 1)[1]): value for name, value in state.items()}


def vil_names(naming, version: int):
    return lambda state: {naming(name, version): value for name, value in state.items()}


def intern_names(naming: str):
    return lambda state: getattr(internimage_names, naming)(internimage_names.official(state))


def intern_detector(state: dict) -> dict:
    """The backbone of a detector of mmdet 2, with a name of its neck."""
    names = internimage_names.official({name: value for name, value in state.items() if name.startswith('backbone.')})
    return {f'backbone.{name}': value for name, value in names.items()}


def convnext_names(words: dict, grn_ndim: int = 4):
    return lambda state: renamed(state, words, grn_ndim)


# case: (model for a seed, function to the published names, wrapper or kind of file)
CASES = {
    'InternImage': (lambda seed: internimage(seed, **LIKE_S), internimage_names.official, 'model'),
    'InternImage, clip': (lambda seed: internimage(seed, clip=True, **LIKE_H), internimage_names.official, 'model'),
    'InternImage, HF': (lambda seed: internimage(seed, **LIKE_S), intern_names('hugging_face'), 'safetensors'),
    'InternImage, mmpretrain': (lambda seed: internimage(seed, **LIKE_S), intern_names('mmpretrain'), 'state_dict'),
    'InternImage, detector': (lambda seed: internimage(seed, **LIKE_S), intern_detector, 'state_dict'),
    **{f'Vision-LSTM {version}{training}': (lambda seed, version=version: vision_lstm(version, seed),
                                            vil_names(naming, version), 'state_dict')
       for version in (1, 2) for training, naming in (('', published), (', training', in_training))},
    'VOLO': (build_volo, volo_names, 'state_dict'),
    'VOLO, timm': (build_volo, volo_names, 'safetensors'),
    **{f'ConvNeXt{kind}, V{version}': (lambda seed, version=version: convnext(seed, version == 2),
                                       convnext_names(words, grn_ndim), wrapper)
       for version in (1, 2) for kind, words, grn_ndim, wrapper in (
           ('', OFFICIAL, 4, 'model'), (', timm', {r'^backbone\.': ''}, 1, 'safetensors'),
           (', mmpretrain', MMPRETRAIN, 4, 'state_dict'))},
}


def write_official(path, state: dict, wrapper: str):
    if wrapper == 'safetensors':
        save_safetensors({name: value.contiguous() for name, value in state.items()}, path)
    else:
        torch.save({wrapper: state}, path)
    return path


def read(path, to: str) -> dict:
    return load_safetensors(path) if to == 'safetensors' else torch.load(path)['state_dict']


def assert_equal(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    assert all(found[name].dtype == value.dtype and torch.equal(found[name], value)
               for name, value in expected.items())


@pytest.fixture(scope='module')
def models():
    """(source model, target model) of each case, built once."""
    built = {}

    def models(case):
        if case not in built:
            built[case] = CASES[case][0](1), CASES[case][0](2)
        return built[case][0], copy.deepcopy(built[case][1])
    return models


@pytest.mark.parametrize('to', ['mmdet', 'safetensors'])
@pytest.mark.parametrize('case', CASES)
def test_round_trip(case, to, models, tmp_path):
    _, names, wrapper = CASES[case]
    source, target = models(case)
    official = names(source.state_dict())
    expected = source.state_dict()
    if case == 'InternImage, detector':
        expected = {name: value for name, value in expected.items() if name.startswith('backbone.')}
    path = write_official(tmp_path / ('in.safetensors' if wrapper == 'safetensors' else 'in.pth'), official, wrapper)

    report = convert_checkpoint(path, tmp_path / 'ours', to=to)
    assert report.recognized_as in {form.name for form in known_formats()}
    assert len(report.matched) == len(official) and not (report.resized or report.dropped or report.missing)
    assert_equal(read(tmp_path / 'ours', to), expected)

    other = {'mmdet': 'safetensors', 'safetensors': 'mmdet'}[to]
    again = convert_checkpoint(tmp_path / 'ours', tmp_path / 'again', to=other)
    assert again.recognized_as == 'this project'
    assert_equal(read(tmp_path / 'again', other), expected)

    load_official(target, tmp_path / 'again')
    assert_equal({name: value for name, value in target.state_dict().items() if name in expected}, expected)


@pytest.mark.parametrize('case', CASES)
def test_init_cfg_takes_the_official_and_the_converted_file(case, models, tmp_path):
    """A backbone alone, from the published and from the converted file."""
    _, names, wrapper = CASES[case]
    source, _ = models(case)
    path = write_official(tmp_path / ('in.safetensors' if wrapper == 'safetensors' else 'in.pth'),
                          names(source.state_dict()), wrapper)
    convert_checkpoint(path, tmp_path / 'ours.safetensors')
    part = source['backbone'] if isinstance(source, nn.ModuleDict) else source.backbone
    for file in (path, tmp_path / 'ours.safetensors'):
        backbone = copy.deepcopy(part)
        backbone.init_cfg = dict(type='Pretrained', checkpoint=str(file))
        backbone.init_weights()
        assert_equal(backbone.state_dict(), part.state_dict())


def test_a_convnext_detectors_names(tmp_path):
    """Without the head, norms of the maps included: mmdet's and the official detectors' files."""
    from vitdet_plugin.backbones.convnext import ConvNeXtBackbone
    source = nn.ModuleDict(dict(backbone=ConvNeXtBackbone(dict(depths=(1, 1, 1, 1), dims=(4, 6, 8, 10)))))
    path = write_official(tmp_path / 'in.pth', renamed(source.state_dict(), FACEBOOK), 'state_dict')
    convert_checkpoint(path, tmp_path / 'out.pth')
    assert_equal(read(tmp_path / 'out.pth', 'mmdet'), source.state_dict())
