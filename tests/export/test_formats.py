"""Files of every format: loaded without this package, equal to the model, and never left half written."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope

from tests.datasets.tiny_classes import CLASSES, write_class_folders
from tests.export.test_detectors import SIZE, load, noise_image
from tests.export.test_files import small_retinanet
from tests.visualization.tiny_folder_classifier import write_classifier
from vitdet_plugin.cli import export
from vitdet_plugin.engine.load_model import load_model
from vitdet_plugin.errors import UserError
from vitdet_plugin.export import formats
from vitdet_plugin.export.formats import export_model
from vitdet_plugin.export.modules import ExportedDetector
from vitdet_plugin.export.request import ExportRequest
from vitdet_plugin.export.torch_program import read_metadata

LOAD = """
import sys, json, numpy, torch, torchvision
path, image, out = sys.argv[1:]
extra = {'vitdet.json': ''}
if path.endswith('.pt2'):
    model = torch.export.load(path, extra_files=extra).module()
else:
    model = torch.jit.load(path, _extra_files=extra)
found = model(torch.from_numpy(numpy.load(image)))
numpy.savez(out, *[each.detach().numpy() for each in ([found] if torch.is_tensor(found) else found)])
assert json.loads(extra['vitdet.json'])['classes'], extra
assert not any(name.startswith(('vitdet_plugin', 'mmdet', 'mmengine')) for name in sys.modules)
"""


def run_alone(path, image, folder):
    """Run a file in a new interpreter with torch and torchvision alone."""
    np.save(folder / 'image.npy', image.numpy())
    subprocess.run([sys.executable, '-I', '-c', LOAD, path, folder / 'image.npy', folder / 'found.npz'], check=True)
    found = np.load(folder / 'found.npz')
    return [found[name] for name in found.files]


@pytest.fixture
def classifier(tmp_path):
    """A run folder of a small classifier, and the model."""
    root = write_class_folders(tmp_path / 'a set', per_class=2)
    run = tmp_path / 'run'
    run.mkdir()
    config, weights = write_classifier(run, root)
    Path(weights).rename(run / 'iter_1.pth')
    return run, load_model(config, run / 'iter_1.pth', 'cpu')


@pytest.mark.parametrize('kind, suffix', [('torch-export', 'pt2'), ('torchscript', 'torchscript')])
def test_torch_formats_of_a_run_folder(classifier, tmp_path, capsys, kind, suffix):
    run, loaded = classifier
    assert export.main([str(run), '--format', kind]) == 0
    out = run / f'model.{suffix}'
    assert f'{out}: classifier, input 1 x 3 x 32 x 48 (RGB, 0 to 255), the loaded' in capsys.readouterr().out
    assert json.loads(read_metadata(out)['classes']) == list(CLASSES)
    image = noise_image()[:, :, :32, :48].contiguous()
    found, = run_alone(out, image, tmp_path)
    with torch.no_grad():
        plain = loaded.model.data_preprocessor(dict(inputs=image.flip(1)), False)['inputs']
        expected = loaded.model(plain, mode='tensor').softmax(1)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_a_detector_as_a_program(tmp_path):
    loaded, out = load(**small_retinanet()), tmp_path / 'd.pt2'
    loaded.classes = ['a', 'b', 'c']
    assert export_model(loaded, ExportRequest('torch-export', out, SIZE)).difference < 1e-4
    with torch.no_grad():
        expected = ExportedDetector(loaded.model).eval()(noise_image())
    for found, each in zip(run_alone(out, noise_image(), tmp_path), expected, strict=True):
        np.testing.assert_allclose(found, each.numpy(), atol=1e-3)


def test_openvino(classifier, capsys):
    openvino = pytest.importorskip('openvino', reason='the extra "openvino" is not installed')
    run, _ = classifier
    assert export.main([str(run), '--format', 'openvino']) == 0
    assert 'OpenVINO within ' in capsys.readouterr().out
    assert {'model.xml', 'model.bin'} <= {path.name for path in run.iterdir()}
    model = openvino.Core().read_model(str(run / 'model.xml'))
    classes = model.get_rt_info(['vitdet_plugin', 'classes'])
    assert json.loads(classes if isinstance(classes, str) else classes.astype(str)) == list(CLASSES)


@pytest.mark.parametrize('kind', ['onnx', 'openvino'])
def test_half(classifier, capsys, kind):
    pytest.importorskip('onnxruntime' if kind == 'onnx' else 'openvino', reason='the extra is not installed')
    run, _ = classifier
    assert export.main([str(run), '--format', kind, '--half']) == 0
    printed = capsys.readouterr().out
    difference = float(printed.split(' within ')[1].split()[0])
    assert ', float16, input' in printed and 0 < difference < formats.HALF_TOLERANCE
    if kind == 'onnx':
        import onnx
        model = onnx.load(str(run / 'model_half.onnx'))
        assert {each.type.tensor_type.elem_type for each in [*model.graph.input, *model.graph.output]} == {1}
        halves = [each for each in model.graph.initializer if each.data_type == onnx.TensorProto.FLOAT16]
        assert len(halves) > 5 and {each.key for each in model.metadata_props} > {'classes', 'precision'}


def test_a_refused_file_does_not_stay_and_an_earlier_one_is_kept(tmp_path, monkeypatch):
    init_default_scope('mmdet')
    out = tmp_path / 'f.pt2'
    monkeypatch.setattr(formats, 'compare', lambda *args: 0.5)
    for before in ([], ['f.pt2']):
        with pytest.raises(UserError, match=r'f.pt2: not written, because .* differ by 5.0e-01'):
            export_model(load(), ExportRequest('torch-export', out, SIZE, features=True))
        assert [path.name for path in tmp_path.iterdir()] == before
        out.write_text('an earlier file')


@pytest.mark.parametrize('kind, name', [('torch-export', 'f.pt2'), ('torchscript', 'f.torchscript'),
                                        ('onnx', 'f.onnx')])
def test_a_full_disk_is_one_line_and_leaves_nothing(classifier, tmp_path, kind, name):
    """Files of more than 10 kB cannot be written."""
    out = tmp_path / 'folder' / name
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(UserError, match=f'{name} could not be saved: File too large; .* Free some space'):
            export_model(classifier[1], ExportRequest(kind, out, (32, 48)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(out.parent.iterdir())
