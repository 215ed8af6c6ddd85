"""The runtime needs no other part of this package, and neither torch nor mmdet."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from tests.runtime.small_files import noise, write_classifier, write_detector

pytest.importorskip('onnxruntime', reason='the extra "onnx" is not installed')
pytest.importorskip('onnx', reason='the extra "onnx" is not installed')
ROOT = Path(__file__).resolve().parents[2]
HEAVY = ('torch', 'torchvision', 'mmengine', 'mmdet', 'mmcv', 'mmpretrain', 'timm', 'matplotlib', 'pycocotools',
         'scipy')
BLOCK = """
import importlib.abc, sys
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {names!r}:
            raise ModuleNotFoundError(f'{{name}} is blocked', name=name)
sys.meta_path.insert(0, Blocked())
"""


def run(code, folder, names=HEAVY, path=()):
    """Run a program in a fresh interpreter that cannot import some packages."""
    code = BLOCK.format(names=tuple(names)) + code
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(map(str, path))}
    done = subprocess.run([sys.executable, '-c', code], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


LOAD = """
import time
start = time.perf_counter()
from {package} import load
model = load('d.onnx')
seconds = time.perf_counter() - start
result, = model('a.png', score_thr=0)
print(result.names[0], ','.join(f'{{value:.3f}}' for value in result.boxes[0]), result.masks.sum(), f'{{seconds:.1f}}s')
for name in {heavy!r}:
    assert name not in __import__('sys').modules, name
"""


@pytest.fixture
def folder(tmp_path):
    write_detector(tmp_path / 'd.onnx', masks='boxes')
    cv2.imwrite(str(tmp_path / 'a.png'), noise(48, 64))
    return tmp_path


@pytest.mark.parametrize('without', [(), ('cv2',), ('PIL',)])
def test_as_part_of_the_package(folder, without):
    names = (*HEAVY, *without)
    name, box, area, _ = run(LOAD.format(package='vitdet_plugin.runtime', heavy=names), folder, names, [ROOT])
    assert (name, box) == ('b', '16.000,12.000,32.000,24.000') and 88 <= int(area) <= 96


def test_copied_next_to_a_model(folder):
    """The rest of the package cannot be imported."""
    shutil.copytree(ROOT / 'vitdet_plugin/runtime', folder / 'runtime', ignore=shutil.ignore_patterns('__pycache__'))
    names = (*HEAVY, 'vitdet_plugin')
    assert run(LOAD.format(package='runtime', heavy=names), folder, names)[0] == 'b'
    assert run("import runpy\nsys.argv = ['runtime', 'd.onnx', 'a.png']\ntry:\n    runpy.run_module('runtime', "
               "run_name='__main__')\nexcept SystemExit as end:\n    assert end.code == 0", folder, names)[-1] == \
        'results.jsonl'


def test_without_an_image_library(folder):
    words = run("from vitdet_plugin.runtime import load, ModelError\ntry:\n    load('d.onnx')\nexcept ModelError as "
                "error:\n    print(error)", folder, (*HEAVY, 'cv2', 'PIL'), [ROOT])
    assert ' '.join(words).startswith('images require OpenCV or Pillow. Run pip install')


@pytest.mark.parametrize(('kind', 'package'), [('.onnx', 'onnxruntime'), ('.xml', 'openvino')])
def test_without_the_library_of_the_file(folder, kind, package):
    (folder / f'd{kind}').touch()
    words = run(f"from vitdet_plugin.runtime import load, ModelError\ntry:\n    load('d{kind}')\nexcept ModelError as "
                "error:\n    print(error)", folder, (*HEAVY, package), [ROOT])
    assert ' '.join(words) == f'd{kind} requires the package {package}. Run pip install {package}'


def test_with_pillow_results_are_close(tmp_path):
    """Of JPEG files, which the two libraries decode alike up to rounding."""
    write_classifier(tmp_path / 'd.onnx')
    cv2.imwrite(str(tmp_path / 'a.jpg'), noise(48, 64))
    code = "from vitdet_plugin.runtime import load\nprint(*load('d.onnx')('a.jpg')[0].scores.tolist())"
    first, second = ([float(word) for word in run(code, tmp_path, (*HEAVY, missing), [ROOT])]
                     for missing in ('PIL', 'cv2'))
    assert first == pytest.approx(second, abs=2e-3)
