"""Options of ``vitdet export``: every wrong combination is one line, before anything slow."""

import pytest

from vitdet_plugin.cli import export
from vitdet_plugin.errors import UserError
from vitdet_plugin.export import request
from vitdet_plugin.export.request import check_packages, output_file, read_dynamic


@pytest.fixture
def run_folder(tmp_path):
    folder = tmp_path / 'a run'
    folder.mkdir()
    (folder / 'config.py').write_text('model = None')
    (folder / 'iter_1.pth').write_bytes(b'')
    return folder


@pytest.mark.parametrize('words, says', [
    ('--format torch-export --opset 18', '--opset 18: a file of --format torch-export has no ONNX operator set'),
    ('--format torchscript --opset 17', '--opset 17: a file of --format torchscript has no'),
    ('--format torchscript --int8 DATA', '--int8 is not available with --format torchscript; use --format onnx'),
    ('--format torch-export --half', '--half is not available with --format torch-export; use --format onnx'),
    ('--format torchscript --dynamic batch', '--dynamic batch is not available with --format torchscript, whose'),
    ('--half --int8 DATA', '--half and --int8: give one of them'),
    ('--features --int8 DATA', '--int8 with --features: '),
    ('--features --masks image', '--masks image with --features: '),
    ('--dynamic batch,height', "--dynamic batch,height: unknown name 'height'; give batch, size, or batch,size"),
    ('--dynamic ,', 'give batch, size, or batch,size'),
    ('--shape 0 64', '--shape 0 64: give a height and a width'),
    ('--shape 64 999999999', '--shape 64 999999999: give a height and a width'),
    ('--opset 99', '--opset 99: give a number from 7 to '), ('--opset 0', '--opset 0: give a number from 7 to '),
    ('--opset -1', '--opset -1: give a number from 7 to '), ('--opset 6', '--opset 6: give a number from 7 to '),
    ('--format torch-export --out m', '--out m: a file of --format torch-export must end with .pt2'),
    ('--format openvino --out m.onnx', '--out m.onnx: a file of --format openvino must end with .xml'),
    ('--out m.pt2', '--out m.pt2: a file of --format onnx must end with .onnx'),
    ('--int8 none', '--int8 none: '),
])
def test_wrong_combinations(run_folder, capsys, words, says, monkeypatch):
    monkeypatch.chdir(run_folder.parent)
    (run_folder.parent / 'DATA').mkdir()
    assert export.main([str(run_folder), *words.split()]) == 2
    printed = capsys.readouterr().err
    assert printed.count('\n') == 1 and printed.startswith('error: ')
    assert says in printed or words == '--int8 none' and 'none does not exist' in printed
    assert sorted(path.name for path in run_folder.iterdir()) == ['config.py', 'iter_1.pth']


def test_the_default_file_is_in_the_run_folder(tmp_path):
    assert output_file(None, 'openvino', tmp_path, True, None) == tmp_path / 'model_half.xml'
    assert output_file(None, 'onnx', tmp_path, False, 'data') == tmp_path / 'model_int8.onnx'
    with pytest.raises(UserError, match='--out is missing; give the file to write, for example --out model.pt2'):
        output_file(None, 'torch-export', None, False, None)


def test_names_of_dynamic_sizes_are_in_order():
    assert read_dynamic('size, batch') == ('batch', 'size') and read_dynamic(None) == ()


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(request.importlib.util, 'find_spec', lambda name: None if name == 'openvino' else object())
    check_packages('onnx'), check_packages('torch-export')
    with pytest.raises(UserError, match=r'requires the package openvino. Run pip install "vitdet-plugin\[openvino\]"'):
        check_packages('openvino')


def test_an_exported_file_is_not_a_model_to_export(tmp_path, capsys):
    (tmp_path / 'a.onnx').write_bytes(b'')
    assert export.main([str(tmp_path / 'a.onnx'), '--out', str(tmp_path / 'b.onnx')]) == 2
    assert 'is an exported file; give a run folder' in capsys.readouterr().err
