"""``vitdet bench``: rows of all backends with accuracy, reasons for missing ones, one line for mistakes."""

import copy
import csv

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from tests.bench.exported import write_classifier, write_detector
from tests.end_to_end.tiny_classes import write_tiny_classes
from tests.end_to_end.tiny_set import CONFIG, write_tiny_set
from vitdet_plugin.bench import session
from vitdet_plugin.cli import bench
from vitdet_plugin.errors import UserError


@pytest.fixture(scope='module')
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('run')
    write_tiny_set(folder / 'set', images=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TINY_SET', str(folder / 'set'))
        cfg = Config.fromfile(CONFIG)
    init_default_scope('mmdet')
    from mmdet.registry import MODELS
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), folder / 'best_coco_bbox_mAP_iter_2.pth')
    cfg.dump(folder / 'tiny.py')
    return folder


def read(path):
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def test_a_work_directory_by_all_backends(run_folder, tmp_path, monkeypatch, capsys):
    pytest.importorskip('onnxruntime')
    shapes = []
    monkeypatch.setattr(session, 'export_onnx', lambda loaded, path, shape, dynamic: shapes.append(shape) or
                        write_detector(path))
    monkeypatch.setattr(session, '_missing_package', lambda name: 'not installed' if name == 'openvino' else '')
    threads = torch.get_num_threads()
    try:
        assert bench.main([str(run_folder), '--device', 'cpu', '--dtype', 'fp32', '--batch', '1,2', '--threads', '1',
                           '--rounds', '5', '--data', '2', '--out', str(tmp_path / 'a.csv')]) == 0
    finally:
        torch.set_num_threads(threads)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith('machine ') and f'torch {torch.__version__}' in shown[0] and 'load' in shown[0]
    rows = read(tmp_path / 'a.csv')
    assert [(row['backend'], row['batch'], row['reason']) for row in rows] == [
        ('pytorch', '1', ''), ('pytorch', '2', ''), ('onnxruntime', '1', ''),
        ('onnxruntime', '2', 'the file takes a batch of 1 only'), ('openvino', '1', 'not installed'),
        ('openvino', '2', 'not installed')]
    assert shapes == [(64, 64)] and rows[0]['height'] == '64' and rows[0]['rounds'] == '5'
    assert all(0 <= float(row['accuracy']) <= 1 for row in rows[:3]) and rows[4]['accuracy'] == ''
    parts = [float(rows[0][f'{part}_ms']) for part in ('preprocess', 'model', 'postprocess', 'total')]
    assert min(parts) > 0 and max(parts) == parts[-1]


def test_a_compiled_model_is_one_row_more_or_a_reason(run_folder, monkeypatch, capsys):
    """``nn.Module.compile`` itself needs a minute, see tests/backbones/test_inductor.py."""
    compiled = []
    monkeypatch.setattr(torch.nn.Module, 'compile', lambda self, **options: compiled.append((type(self), options)))
    words = [str(run_folder), '--device', 'cpu', '--threads', '1', '--backends', 'pytorch', '--dtype', 'fp32',
             '--rounds', '5', '--compile']
    assert bench.main(words) == 0
    assert [kind.__name__ for kind, _ in compiled] == ['ViTDet', 'SimpleFeaturePyramid']
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:4]] == ['pytorch', 'compiled']

    def fails(model):
        def run(*args, **kwargs):
            raise RuntimeError('InvalidCxxCompiler: No working C++ compiler found\nmore')
        model.forward = run
        return model

    monkeypatch.setattr(session, '_compiled', lambda model: fails(copy.deepcopy(model)))
    assert bench.main(words) == 0
    assert 'not measured: InvalidCxxCompiler: No working C++ compiler found' in capsys.readouterr().out


@pytest.mark.parametrize('weights', ['vil.th', 'volo.pth.tar', 'model.bin', 'vil2_tiny', 'w.safetensors'])
def test_weights_of_every_kind_follow_a_config(weights, monkeypatch):
    monkeypatch.setattr(bench, 'run', lambda args, command, prepare: prepare(args) or args)
    args = bench.main(['vitdet_demo', weights, 'a.jpg'])
    assert (args.configs, args.checkpoint, args.more) == (['vitdet_demo'], weights, ['a.jpg'])


def test_an_export_that_fails_is_a_reason(run_folder, monkeypatch, capsys):
    def fails(*args, **kwargs):
        raise UserError('the model cannot be exported')

    monkeypatch.setattr(session, 'export_onnx', fails)
    words = [str(run_folder), '--device', 'cpu', '--threads', '1', '--backends', 'onnxruntime', '--rounds', '5']
    assert bench.main(words) == 2
    shown = capsys.readouterr()
    assert 'not measured: the model cannot be exported' in shown.out
    assert shown.err.splitlines()[-1] == 'error: no row could be measured: the model cannot be exported'


def test_a_classifier_and_files_of_it(tmp_path, monkeypatch):
    pytest.importorskip('onnxruntime')
    write_tiny_classes(tmp_path / 'classes', train=1, val=1)
    monkeypatch.setenv('TINY_CLASSES', str(tmp_path / 'classes'))
    file = str(write_classifier(tmp_path / 'a.onnx', 'batch'))
    config = str(CONFIG.with_name('tiny_classifier.py'))
    with pytest.warns(UserWarning, match='random'):
        assert bench.main([config, '--device', 'cpu', '--dtype', 'fp32', '--file', file, '--batch', '2', '--threads',
                           '1', '--backends', 'pytorch,onnxruntime', '--rounds', '5', '--data', '--shape', '32,48',
                           '--out', str(tmp_path / 'a.csv')]) == 0
    rows = read(tmp_path / 'a.csv')
    assert [(row['backend'], row['height']) for row in rows] == [('pytorch', '32'), ('onnxruntime', '32'),
                                                                ('pytorch', '48'), ('onnxruntime', '32')]
    assert {row['metric'] for row in rows} == {'top-1'} and all(row['accuracy'] for row in rows)


def test_an_exported_file_alone(run_folder, tmp_path, capsys):
    pytest.importorskip('onnxruntime')
    file = str(write_detector(tmp_path / 'a.onnx'))
    images = str(run_folder / 'set/images')
    assert bench.main([file, images, '--backends', 'onnxruntime', '--threads', '1', '--rounds', '5']) == 0
    assert 'onnxruntime  fp32   1        1      64x64 ' in capsys.readouterr().out


@pytest.mark.parametrize('words, expected', [
    (['{run}', '--threads', '0'], '--threads 0: give one or several numbers from 1'),
    (['{run}', '--batch', '1,x'], '--batch 1,x: give one or several numbers from 1'),
    (['{run}', '--dtype', 'fp8'], '--dtype fp8: choose from fp32, bf16, fp16'),
    (['{run}', '--backends', 'onnx'], '--backends onnx: choose from pytorch, onnxruntime, openvino'),
    (['{run}', '--shape', '0x3'], '--shape 0x3: give sizes in pixels'),
    (['{run}', '--rounds', '2'], '--rounds 2: give at least 5'),
    (['{run}', '--images', 'none'], 'none does not exist; give an image'),
    (['{run}', '{file}', '--images', '.'], 'give one image or one folder of images'),
    (['vitdet_demo', 'none'], 'none does not exist; give an image or a folder of images, or a checkpoint'),
    (['vitdet_demo', 'none.pth'], 'none.pth does not exist; give a checkpoint file'),
    (['{run}', '--file', 'none.onnx'], 'none.onnx does not exist'),
    (['{run}', 'x.pth'], 'x.pth does not exist'),
    (['none.xml'], 'none.xml does not exist; write it with "vitdet export"'),
    (['none_at_all'], 'none_at_all'),
    (['{file}', '--data'], '--data cannot be used with an exported file'),
    (['{file}'], 'not an exported model'),
])
def test_a_mistake_is_one_line(run_folder, tmp_path, capsys, words, expected):
    file = tmp_path / 'text.onnx'
    file.write_text('not an exported model')
    status = bench.main([word.format(run=run_folder, file=file) for word in words])
    errors = capsys.readouterr().err.splitlines()
    assert status == 2 and errors[-1].startswith('error: ')
    assert expected in errors[-1] or words == ['{file}']
