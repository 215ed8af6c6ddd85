"""Reading files: every kind and wrapping; only data is read."""

import collections
import os
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.checkpoints import models, official_names
from vitdet_plugin.checkpoints.files import load_state_dict_file
from vitdet_plugin.checkpoints.official import load_official
from vitdet_plugin.errors import UserError

WEIGHTS = {'a.weight': torch.randn(3, 4), 'a.bias': torch.randn(3), 'b': torch.arange(5)}


def as_numpy(state):
    return {name: value.numpy() for name, value in state.items()}


def write_pickle(path, content, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def assert_same(found, expected=None):
    expected = WEIGHTS if expected is None else expected
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value)


@pytest.mark.parametrize('protocol', [0, 2, 4, 5])
def test_detectron2_pickle(tmp_path, protocol):
    content = {'model': as_numpy(WEIGHTS), '__author__': 'Detectron2 Model Zoo', 'matching_heuristics': True}
    assert_same(load_state_dict_file(write_pickle(tmp_path / 'model.pkl', content, protocol)))


def test_pickle_of_numpy_1_and_an_ordered_dict(tmp_path):
    """The published files were written with NumPy 1, whose internals had another name."""
    raw = pickle.dumps({'model': collections.OrderedDict(as_numpy(WEIGHTS))}, 2)
    old = raw.replace(b'numpy._core.multiarray', b'numpy.core.multiarray')
    assert b'numpy.core.multiarray' in old
    path = tmp_path / 'model.pkl'
    path.write_bytes(old)
    assert_same(load_state_dict_file(path))


@pytest.mark.parametrize('protocol', [2, 5])
def test_pickle_with_scalars_other_orders_and_text(tmp_path, protocol):
    content = {'scalar': np.array(3.0), 'fortran': np.asfortranarray(np.arange(6.0).reshape(2, 3)),
               'half': np.ones(2, np.float16), 'name': np.array(['x']),
               'permuted': np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2)}
    found = load_state_dict_file(write_pickle(tmp_path / 'model.pkl', {'model': content}, protocol))
    assert found['scalar'].shape == () and found['half'].dtype == torch.float16 and 'name' not in found
    assert torch.equal(found['fortran'], torch.arange(6.0, dtype=torch.float64).view(2, 3))
    assert torch.equal(found['permuted'], torch.arange(24.0, dtype=torch.float64).view(2, 3, 4).transpose(0, 1))


def test_a_detectron2_detector_from_its_pickle(tmp_path):
    source, target = models.detector(1), models.detector(2)
    state = as_numpy(official_names.detectron2(source.state_dict()))
    report = load_official(target, write_pickle(tmp_path / 'model_final.pkl', {'model': state, '__author__': 'x'}),
                           allow_missing=False)
    assert report.recognized_as == 'detectron2 ViTDet'
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in target.state_dict().items())


@pytest.mark.parametrize(('suffix', 'zipped'), [
    ('.pth', True), ('.pth', False), ('.bin', True), ('.bin', False), ('.pkl', True)])
def test_old_and_new_torch_files_with_any_suffix(tmp_path, suffix, zipped):
    path = tmp_path / f'x{suffix}'
    torch.save({'state_dict': WEIGHTS, 'meta': {'epoch': 3}}, path, _use_new_zipfile_serialization=zipped)
    assert_same(load_state_dict_file(path))


def test_safetensors(tmp_path):
    save_file(WEIGHTS, tmp_path / 'x.safetensors')
    assert_same(load_state_dict_file(tmp_path / 'x.safetensors'))


def test_prefix_of_data_parallel_and_non_tensors_are_removed(tmp_path):
    torch.save({'model': {**{f'module.{k}': v for k, v in WEIGHTS.items()}, 'epoch': 3}}, tmp_path / 'x.pth')
    assert_same(load_state_dict_file(tmp_path / 'x.pth'))


class Attack:
    """Creates a directory when fully unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def test_the_attack_works_where_pickle_is_trusted(tmp_path):
    pickle.loads(pickle.dumps(Attack(tmp_path / 'marker')))
    assert (tmp_path / 'marker').exists()


def write_torch(path, content):
    torch.save(content, path)
    return path


def write_old_torch(path, content):
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


@pytest.mark.parametrize(('name', 'write'), [
    ('x.pkl', write_pickle), ('x.pth', write_torch), ('y.pth', write_old_torch), ('y.pkl', write_torch)])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, name, write):
    path = write(tmp_path / name, {'model': as_numpy(WEIGHTS) if name == 'x.pkl' else WEIGHTS,
                                   'hook': Attack(tmp_path / 'marker')})
    line = refusal(path)
    assert not (tmp_path / 'marker').exists()
    assert 'refuse' in line and 'mkdir' in line


@pytest.mark.parametrize('callee', [eval, exec, os.system, getattr, np.load, torch.load])
def test_pickles_may_contain_only_arrays(tmp_path, callee):
    class Call:
        def __reduce__(self):
            return callee, ('1',)

    assert 'refuses to load' in refusal(write_pickle(tmp_path / 'x.pkl', {'model': {'w': Call()}}))


def refusal(path):
    with pytest.raises(UserError) as caught:
        load_state_dict_file(path)
    line = str(caught.value)
    assert str(path) in line and '\n' not in line
    return line


def whole_file(path):
    state = {name: value.repeat_interleave(200) for name, value in WEIGHTS.items()}
    if path.suffix == '.safetensors':
        save_file(state, path)
    elif path.suffix == '.pkl':
        write_pickle(path, {'model': as_numpy(state)})
    else:
        torch.save(state, path)
    return path.read_bytes()


@pytest.mark.parametrize('share', [0.0, 0.02, 0.5, 0.99])
@pytest.mark.parametrize('name', ['x.pth', 'x.pkl', 'x.safetensors'])
def test_a_truncated_file(tmp_path, name, share):
    path = tmp_path / name
    content = whole_file(path)
    path.write_bytes(content[:int(len(content) * share)])
    refusal(path)


@pytest.mark.parametrize('name', ['x.pth', 'x.pkl', 'x.safetensors'])
def test_another_kind_of_file(tmp_path, name):
    path = tmp_path / name
    path.write_text('<html>404 Not Found</html>\n' * 50)
    refusal(path)


def test_a_missing_file_and_a_file_without_weights(tmp_path):
    assert 'does not exist' in refusal(tmp_path / 'x.pth')
    assert 'is a folder' in refusal(tmp_path)
    torch.save([1, 2], tmp_path / 'list.pth')
    assert 'holds a list, not a dict of weights' in refusal(tmp_path / 'list.pth')
    torch.save({'epoch': 3}, tmp_path / 'empty.pth')
    assert 'holds no tensors' in refusal(tmp_path / 'empty.pth')
