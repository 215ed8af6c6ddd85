"""``vitdet predict`` with exported files: threads, types, and files that it does not run."""

import json

import cv2
import pytest

from tests.runtime.small_files import noise, write_detector
from vitdet_plugin.api import Inferencer
from vitdet_plugin.cli import predict
from vitdet_plugin.errors import UserError

pytest.importorskip('onnxruntime', reason='the extra "onnx" is not installed')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('files')
    write_detector(folder / 'a.onnx')
    write_detector(folder / 'half.onnx', precision='half')
    for name in ('a.pt2', 'a.torchscript', 'a.onnx.data', 'b.bin', 'b.xml'):
        (folder / name).write_text('')
    cv2.imwrite(str(folder / 'image.png'), noise(24, 32))
    return folder


def command(folder, name, *words):
    return predict.main([str(folder / name), str(folder / 'image.png'), '--out', str(folder / 'out'), '--score-thr',
                         '0', '--format', 'jsonl', '--no-draw', *words])


def boxes(folder):
    return json.loads((folder / 'out/predictions.jsonl').read_text())['boxes']


@pytest.mark.parametrize('words, says', [
    (['--threads', '2'], ''), (['--dtype', 'fp32'], 'predicting in fp32'), (['--device', 'cpu', '--tile', '20'], '')])
def test_an_onnx_file_with_options(folder, capsys, words, says):
    assert command(folder, 'a.onnx', *words) == 0 and says in capsys.readouterr().err
    assert boxes(folder)


def test_the_type_of_an_onnx_file_is_its_own(folder):
    assert Inferencer.load(folder / 'a.onnx', threads=1).precision == 'fp32'
    assert Inferencer.load(folder / 'half.onnx', dtype='fp16').precision == 'fp16'


def test_an_openvino_file_in_16_bits(folder, capsys):
    openvino = pytest.importorskip('openvino')
    model = openvino.convert_model(str(folder / 'a.onnx'))
    for key, value in dict(classes='["a", "b", "c"]', shape='[24, 32]', preprocess='[{"load": "color"}]').items():
        model.set_rt_info(value, ['vitdet_plugin', key])
    openvino.save_model(model, str(folder / 'ov.xml'))
    assert command(folder, 'ov.xml', '--threads', '1') == 0
    expected = boxes(folder)
    capsys.readouterr()
    assert command(folder, 'ov.xml', '--half', '--threads', '1') == 0
    error = capsys.readouterr().err
    assert 'predicting in bf16' in error or 'predicting in fp32' in error
    assert boxes(folder)[0] == pytest.approx(expected[0], abs=0.5)


@pytest.mark.parametrize('name, words, says', [
    ('a.onnx', ['--half'], 'a.onnx: --half cannot be used with an ONNX file, which predicts in its own type (fp32); '
                           'leave it out, or export the model again with --half'),
    ('a.onnx', ['--dtype', 'bf16'], 'a.onnx: --dtype bf16 cannot be used with an ONNX file'),
    ('half.onnx', ['--dtype', 'fp32'], 'its own type (fp16); leave it out, or export the model again without --half'),
    ('a.onnx', ['--threads', '0'], '--threads 0: give a number of threads from 1'),
    ('a.onnx', ['--device', 'cuda'], '--device cuda cannot be used with an exported file'),
    ('a.onnx', ['--cfg-options', 'a=1'], '--cfg-options cannot be used with an exported file'),
    ('b.xml', [], 'b.xml cannot be loaded'),
    ('a.pt2', [], 'a.pt2 is a program for torch.export.load'),
    ('a.torchscript', [], 'a.torchscript is a program for torch.jit.load'),
    ('a.onnx.data', [], 'a.onnx.data holds the weights of an ONNX file; give the .onnx file next to it'),
    ('b.bin', [], 'b.bin holds the weights of an OpenVINO file; give the .xml file next to it'),
    ('none.pt2', [], 'none.pt2 does not exist; give a work directory'),
    ('none.onnx', [], 'none.onnx does not exist'),
])
def test_what_does_not_work_is_one_line(folder, capsys, name, words, says):
    if name == 'b.xml':
        pytest.importorskip('openvino')
    assert command(folder, name, *words) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith('error: ') and says in line


def test_the_api_has_the_same_messages(folder):
    with pytest.raises(UserError, match='--threads True: give a number'):
        Inferencer.load(folder / 'a.onnx', threads=True)
