"""Effects of importing the package: a bare backbone, registration, and later registration."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.backbones.registered import BACKBONES
from tests.test_import_direction import PACKAGE, imported
from vitdet_plugin.utils.registering import registering_modules

NAMES = [cls.__name__ for cls in BACKBONES]
ROOT = Path(__file__).resolve().parents[1]
SELF_REGISTERING = [path.parent.name for path in (ROOT / PACKAGE).glob('*/__init__.py')
                    if 'register_all()' in path.read_text(encoding='utf-8')]


def python(*arguments: str) -> subprocess.CompletedProcess:
    environ = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    return subprocess.run([sys.executable, *arguments], env=environ, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope='module')
def results() -> dict:
    """Result of each function of tests/imports/scenarios.py."""
    done = python('-m', 'tests.imports.scenarios')
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_bare_backbones_work_without_the_stack_and_plotting():
    """They are built, run and load a checkpoint with torch, timm and mmengine alone."""
    code = """if True:
        import sys, tempfile
        from tests.imports.blocked_packages import HEAVY, block
        block(*HEAVY)
        from tests.imports.bare_backbones import check
        check(tempfile.mkdtemp())
        assert not {name.partition('.')[0] for name in sys.modules} & set(HEAVY)
    """
    done = python('-c', code)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line in NAMES] == NAMES


def test_bare_import_patches_and_registers_nothing_but_backbones(results):
    found = results['bare']
    assert found['imported'] in (['ops_dcnv3', 'vitdet_plugin'], ['vitdet_plugin'])
    assert found['changed'] == found['patches'] == found['hooks'] == []
    assert set(NAMES) <= set(found['backbones'])
    assert found['finders'] == ['_StackFinder']


@pytest.mark.parametrize('arguments', [('-c', 'import vitdet_plugin.errors'), ('-m', 'vitdet_plugin.errors')])
def test_the_parent_of_a_submodule_imports_neither_torch_nor_mmengine(arguments):
    done = python('-X', 'importtime', *arguments)
    assert done.returncode == 0, done.stderr
    names = re.findall(r'\|\s*(\S+)$', done.stderr, re.MULTILINE)
    assert 'vitdet_plugin' in names
    assert not {'torch', 'mmengine', 'vitdet_plugin.registration'} & set(names)


@pytest.mark.parametrize('scenario', [
    'by_name', 'by_name_inside_another_package', 'mmdet_first', 'mmpretrain_later', 'head_later', 'config_later',
    'unpickled_transform', 'unpickled_dataset'])
def test_every_class_is_registered(results, scenario):
    assert results[scenario] is True


def test_importing_mmdet_registers_once(results):
    found = results['mmdet_later']
    assert (found['before'], found['after'], found['is_package']) == (False, True, True)
    assert '_StackFinder' not in found['finders'] and found['loader'] == 'SourceFileLoader'


def test_threads_wait_for_registration(results):
    assert results['threads'] == [True, True, True]


def test_a_failing_registration_does_not_break_the_import_of_mmdet(results):
    warning, = results['failing_registration']['warnings']
    assert 'vitdet_plugin did not register its classes: ' in warning


def test_without_the_stack_the_rest_is_registered(results):
    found = results['without_the_stack']
    assert found['message'] == 'mmcv is not installed: pip install onedl-mmcv'
    assert 'vitdet_plugin.heads.yolov5_head' in found['missing']
    registered = set(registering_modules()) - set(found['missing'])
    assert {'vitdet_plugin.backbones.vitdet', 'vitdet_plugin.checkpoints.official', 'vitdet_plugin.compat.amp',
            'vitdet_plugin.engine.guards', 'vitdet_plugin.heads.cls_head'} <= registered


def test_an_incomplete_stack_is_an_error(results):
    # the part that needs it first depends on the version of mmdet
    assert results['stack_without_a_dependency'].endswith(
        ' needs the package terminaltables, which is not installed: pip install terminaltables')


def test_modules_that_register_are_found_by_their_source():
    found = registering_modules()
    assert 'vitdet_plugin.backbones.vitdet' in found
    assert 'vitdet_plugin.evaluation.classifier_report' not in found
    assert registering_modules('backbones') == [name for name in found if '.backbones.' in name]


def test_no_registering_module_imports_one_whose_import_registers():
    """Such a module could be half imported at that time, as importing mmdet, or a subpackage like engine, registers."""
    modules = {'.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__'): path
               for path in (ROOT / PACKAGE).rglob('*.py')}
    imports = {name: {target for _, target in imported(path, ROOT)} for name, path in modules.items()}
    own = {name: {target for each in targets for target in (each, each.rpartition('.')[0]) if target in modules}
           for name, targets in imports.items()}

    def reachable(name: str) -> set[str]:
        found, queue = set(), [name]
        while queue:
            each = queue.pop()
            if each not in found:
                found.add(each)
                queue += own[each]
        return found

    def registers_early(name: str) -> bool:
        subpackage = name.split('.')[1] if '.' in name else ''
        if subpackage in ('', 'registration', *SELF_REGISTERING):
            return False
        return any(target.startswith(('mmdet', 'mmpretrain', *(f'{PACKAGE}.{each}' for each in SELF_REGISTERING)))
                   for each in reachable(name) - {PACKAGE} for target in imports[each])

    registering = registering_modules()
    found = sorted(f'{name} imports {target}' for name in registering
                   for target in reachable(name) - {name} if registers_early(target))
    assert found == []
