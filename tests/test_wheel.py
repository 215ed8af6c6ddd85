"""The wheel: its content, and the commands where it is installed, without the checkout."""

import os
import shutil
import site
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.end_to_end.tiny_set import CONFIG, ROOT, environment, write_tiny_set

SOURCES = ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE', 'vitdet_plugin', 'ops_dcnv3', 'configs',
           'demo')
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A copy of the sources, with what a checkout may contain in addition: tests, and an old build."""
    pytest.importorskip('setuptools', reason='setuptools, which builds the wheel, is not installed')
    source = tmp_path_factory.mktemp('source')
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, symlinks=True, ignore=shutil.ignore_patterns('__pycache__', '*.so'))
        else:
            shutil.copy(path, source / name)
    for name in ('tests/test_api.py', 'build/lib/vitdet_plugin/of_the_last_version.py'):
        (source / name).parent.mkdir(parents=True)
        (source / name).touch()
    return source


def build(source, out, kind):
    """Build ``'wheel'`` or ``'sdist'`` offline, without compiled operators."""
    program = f'import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])'
    run([sys.executable, '-c', program, str(out)], source, OPS_DCNV3_NATIVE='0')
    (path,) = out.iterdir()
    return path


@pytest.fixture(scope='module')
def wheel(source, tmp_path_factory):
    return build(source, tmp_path_factory.mktemp('wheel'), 'wheel')


@pytest.fixture(scope='module')
def bin_folder(wheel, tmp_path_factory):
    """Scripts of a new environment: the wheel, and next to it the packages of the environment of the tests."""
    home = tmp_path_factory.mktemp('environment') / 'venv'
    venv.create(home, symlinks=True)
    python = home / 'bin' / 'python'
    found = run([str(python), '-c', 'import site; print(site.getsitepackages()[0])'], home).strip()
    (Path(found) / 'pinned.pth').write_text('\n'.join(site.getsitepackages()))
    run([sys.executable, '-m', 'pip', '--python', str(python), 'install', '--quiet', '--no-deps', '--no-index',
         '--disable-pip-version-check', str(wheel)], home)
    return home / 'bin'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """An empty folder outside of the checkout, with a data set and a config of the user."""
    folder = tmp_path_factory.mktemp('project')
    write_tiny_set(folder / 'data', images=4)
    (folder / 'mine.py').write_text(CONFIG.read_text())
    return folder


def run(words, cwd, status=0, **variables):
    """Run a command without PYTHONPATH; returns its standard output and error."""
    env = {name: value for name, value in environment(**variables).items() if name != 'PYTHONPATH'}
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == status, f'{words}: {done.stdout[-3000:]}{done.stderr[-3000:]}'
    return done.stdout + done.stderr


def test_the_wheel_holds_configs_demo_and_type_marker(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in ROOT.joinpath('configs').rglob('*.py'):
        assert f'vitdet_plugin/configs/{path.relative_to(ROOT / "configs").as_posix()}' in names
    assert {f'vitdet_plugin/visualization/html_report/page.{suffix}' for suffix in ('css', 'js')} <= names
    assert {'vitdet_plugin/py.typed', 'vitdet_plugin/demo/demo_set.py', 'vitdet_plugin/cli/main.py',
            'vitdet_plugin/demo/vitdet_demo_pretrained.safetensors', 'vitdet_plugin/__main__.py'} <= names
    sources = [path for package in ('vitdet_plugin', 'ops_dcnv3') for path in (ROOT / package).rglob('csrc/**/*.*')]
    assert sources and {path.relative_to(ROOT).as_posix() for path in sources} <= names
    pages = list((ROOT / 'vitdet_plugin/serving/static').iterdir())
    assert len(pages) > 4 and {path.relative_to(ROOT).as_posix() for path in pages} <= names
    folders = {name.split('/')[0] for name in names if '.dist-info/' not in name}
    assert folders == {'vitdet_plugin', 'ops_dcnv3'}
    assert not [name for name in names if '__pycache__' in name or 'tests' in name.split('/') or 'last_version' in name]


def test_the_source_distribution_gives_the_same_wheel_and_holds_no_tests(source, wheel, tmp_path):
    (tmp_path / 'sdist').mkdir()
    (tmp_path / 'wheel').mkdir()
    with tarfile.open(build(source, tmp_path / 'sdist', 'sdist')) as archive:
        archive.extractall(tmp_path, filter='data')
    (unpacked,) = tmp_path.glob('vitdet_plugin-*')
    assert not (unpacked / 'tests').exists() and not (unpacked / 'build').exists()
    again = build(unpacked, tmp_path / 'wheel', 'wheel')
    assert sorted(zipfile.ZipFile(again).namelist()) == sorted(zipfile.ZipFile(wheel).namelist())


def test_the_command_and_the_module_answer(bin_folder, folder):
    version = run([bin_folder / 'vitdet', '--version'], folder)
    assert version.startswith('vitdet ')
    assert 'token-labels' in run([bin_folder / 'python', '-m', 'vitdet_plugin', '--help'], folder)
    where = run([bin_folder / 'python', '-c', 'import vitdet_plugin.cli as c; print(c.__file__)'], folder)
    assert where.startswith(str(bin_folder.parent))


def test_errors_name_no_script_of_the_checkout(bin_folder, folder):
    assert 'needs a source checkout' in run([bin_folder / 'vitdet', 'goldens', '.'], folder, status=2)
    assert 'did you mean vitdet_demo' in run([bin_folder / 'vitdet', 'train', 'vitdet_demoo'], folder, status=2)


def test_train_test_predict_export(bin_folder, folder):
    vitdet, data = bin_folder / 'vitdet', dict(TINY_SET=str(folder / 'data'))
    shown = run([vitdet, 'train', 'mine.py', '--cfg-options', 'train_cfg.max_epochs=1'], folder, **data)
    assert 'logs and checkpoints in' in shown and (folder / 'work_dirs/mine/epoch_1.pth').is_file()
    shown = run([vitdet, 'test', 'mine.py', 'work_dirs/mine', '--work-dir', 'tested', '--out', 'found.json'], folder,
                **data)
    assert 'bbox_mAP' in shown and (folder / 'found.json').is_file()
    run([vitdet, 'predict', 'mine.py', 'work_dirs/mine', 'data/images', '--out', 'drawn'], folder, **data)
    assert len(list((folder / 'drawn').glob('*.jpg'))) == 4
    if all(find_spec(name) for name in ('onnx', 'onnxscript', 'onnxruntime')):
        shown = run([vitdet, 'export', 'mine.py', 'work_dirs/mine', '--features', '--out', 'mine.onnx'], folder, **data)
        assert 'ONNX Runtime within' in shown and (folder / 'mine.onnx').is_file()


def test_shipped_configs_and_weights_are_found(bin_folder, folder):
    """By name, as a base of a config, and the weights that the demo starts from."""
    (folder / 'derived.py').write_text("_base_ = 'vitdet_plugin::vitdet_demo.py'\n")
    program = ('import os\nfrom vitdet_plugin.config.loading import load_config\n'
               "for name in ('vitdet_demo', 'derived.py', 'vitdet_plugin::vitdet_demo'):\n"
               '    checkpoint = load_config(name).model.backbone.init_cfg.checkpoint\n'
               '    print(os.path.isfile(checkpoint), os.path.realpath(checkpoint))\n')
    lines = run([bin_folder / 'python', '-c', program], folder).splitlines()
    assert len([line for line in lines if line.startswith(f'True {bin_folder.parent}')]) == 3


def test_the_demo_writes_its_data_to_the_current_folder(bin_folder, folder):
    pytest.importorskip('skimage', reason='the demo needs scikit-image')
    run([bin_folder / 'vitdet', 'demo', 'make-set', '--train', '2', '--val', '1'], folder)
    assert (folder / 'data/demo/annotations/val.json').is_file()
    assert 'exists already' in run([bin_folder / 'vitdet', 'demo', '--data-only'], folder)


@pytest.mark.skipif('VITDET_SOAK' not in os.environ, reason='end_to_end/test_ranks.py does the same in a checkout: '
                                                            'make soak')
def test_two_ranks_run_the_installed_module(bin_folder, folder):
    run([bin_folder / 'python', '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2', '-m',
         'vitdet_plugin', 'train', 'mine.py', '--launcher', 'pytorch', '--work-dir', 'ranks', '--no-validate',
         '--cfg-options', 'train_cfg.max_epochs=1'], folder, TINY_SET=str(folder / 'data'))
    assert (folder / 'ranks/epoch_1.pth').is_file()
