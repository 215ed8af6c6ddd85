"""pyproject.toml declares what the code imports; the pins in requirements/ are within its ranges."""

import ast
import functools
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())
OWN = {'vitdet_plugin', 'ops_dcnv3', 'demo', 'tools', 'tests', 'benchmarks'}
SHIPPED = ('vitdet_plugin', 'ops_dcnv3', 'demo', 'tools')
# import names that differ from the name of their distribution
DISTRIBUTIONS = {
    'PIL': 'pillow', 'cv2': 'opencv-python', 'faster_coco_eval': 'faster-coco-eval', 'mmcv': 'onedl-mmcv',
    'mmdet': 'onedl-mmdetection', 'mmengine': 'onedl-mmengine', 'mmpretrain': 'onedl-mmpretrain',
    'pytorch_grad_cam': 'grad-cam', 'skimage': 'scikit-image', 'sklearn': 'scikit-learn', 'yaml': 'pyyaml',
}
# Installed by torch for CUDA and ROCm; its kernels are in modules that are imported at the first call.
WITH_TORCH = {'triton': r'/triton_(kernels|products)\.py$'}
# The OpenMMLab packages are an extra only because upstream's install under the same import names.
TOP_LEVEL_EXTRAS = ('openmmlab',)
# Extras of the developers: nothing in the package imports them.
DEVELOPMENT_EXTRAS = ('dev', 'docs')
# Declared although no statement imports them.
NOT_IMPORTED = {
    'tensorboard': 'torch.utils.tensorboard, for the backend that configs/_base_/runtime.py names',
    'imaug': 'a photograph of the demo set',
    'scikit-image': 'photographs of the demo set',
    'argcomplete': 'shell completion',
}


def requirements(lines: list[str]) -> dict[str, Requirement]:
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(each.name): each for each in found}


BASE = requirements(PYPROJECT['project']['dependencies'])
EXTRAS = {name: requirements(lines) for name, lines in PYPROJECT['project']['optional-dependencies'].items()}
DECLARED = {**BASE, **{name: each for extra in EXTRAS.values() for name, each in extra.items()}}


def imports(path: Path) -> list[tuple[str, bool]]:
    """Top-level name of every absolute import, and whether it runs when the module is imported."""
    found = []

    def visit(node: ast.AST, at_import: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend((alias.name.partition('.')[0], at_import) for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and not child.level:
                found.append((child.module.partition('.')[0], at_import))
            typing_only = isinstance(child, ast.If) and 'TYPE_CHECKING' in ast.unparse(child.test)
            visit(child, at_import and not typing_only and not isinstance(
                child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)))

    visit(ast.parse(path.read_text()), True)
    return found


@functools.cache
def third_party() -> dict[str, dict[str, bool]]:
    """Distribution -> file -> whether the file imports it at the top level."""
    found: dict[str, dict[str, bool]] = {}
    for folder in SHIPPED:
        for path in sorted((ROOT / folder).rglob('*.py')):
            relative = path.relative_to(ROOT)
            if any((ROOT / parent).is_symlink() for parent in relative.parents):
                continue  # demo/ is visited by its own name, configs are not modules
            for name, at_import in imports(path):
                helper = folder == 'tools' and name.startswith('_')  # a module next to the scripts
                if name in sys.stdlib_module_names or name in OWN or helper:
                    continue
                files = found.setdefault(canonicalize_name(DISTRIBUTIONS.get(name, name)), {})
                files[str(relative)] = files.get(str(relative), False) or at_import
    return found


BUILD = requirements(PYPROJECT['build-system']['requires'])


def test_every_import_is_declared():
    known = {**DECLARED, **BUILD, **WITH_TORCH}
    assert {name: sorted(files) for name, files in third_party().items() if name not in known} == {}


def test_optional_packages_are_imported_inside_functions():
    always = {**BASE, **{name: each for extra in TOP_LEVEL_EXTRAS for name, each in EXTRAS[extra].items()}}
    at_import = {name: [file for file, top in files.items() if top and not (
        name in WITH_TORCH and re.search(WITH_TORCH[name], file))] for name, files in third_party().items()}
    assert {name: files for name, files in at_import.items() if files and name not in always} == {}


def test_every_declared_package_is_used():
    shipped = {**BASE, **{name: each for extra, packages in EXTRAS.items() if extra not in DEVELOPMENT_EXTRAS
                          for name, each in packages.items()}}
    assert sorted(set(shipped) - set(third_party()) - set(NOT_IMPORTED)) == []


def test_extras_do_not_repeat_base_dependencies():
    assert {extra: sorted(set(packages) & set(BASE)) for extra, packages in EXTRAS.items()
            if set(packages) & set(BASE)} == {}


def pins(name: str) -> dict[str, Version]:
    lines = [line.partition('#')[0].strip() for line in (ROOT / 'requirements' / name).read_text().splitlines()]
    pairs = [line.split('==') for line in lines if '==' in line]
    return {canonicalize_name(package): Version(version) for package, version in pairs}


def lower_bound(requirement: Requirement) -> Version:
    return next(Version(each.version) for each in requirement.specifier if each.operator == '>=')


def test_the_oldest_versions_are_the_lower_bounds():
    expected = {name: lower_bound(each) for name, each in {**BUILD, **DECLARED}.items()}
    oldest = pins('oldest.txt')
    without_tests = {*EXTRAS['docs'], 'mypy'}  # these run on the newest versions only
    assert set(oldest) == set(expected) - without_tests
    wrong = {name: str(version) for name, version in oldest.items()  # 4.9.0.80 is the first 4.9
             if version.release[:len(expected[name].release)] != expected[name].release}
    assert wrong == {}


@pytest.mark.parametrize('file', ['common.txt', 'default.txt', 'dev.txt', 'docs.txt', 'constraints.txt', 'oldest.txt'])
def test_pinned_versions_are_within_the_ranges(file):
    outside = {name: str(version) for name, version in pins(file).items()
               if name in DECLARED and version not in DECLARED[name].specifier}
    assert outside == {}


def test_every_pin_is_a_constraint_and_the_environment_has_every_package():
    constraints = pins('constraints.txt')
    pinned = {**pins('common.txt'), **pins('default.txt'), **pins('dev.txt'), **pins('docs.txt')}
    assert {name: str(version) for name, version in pinned.items() if constraints.get(name) != version} == {}
    assert sorted(set(DECLARED) - set(constraints)) == []


def test_supported_pythons_are_named_once_more_as_classifiers():
    classifiers = [each.rpartition(' ')[2] for each in PYPROJECT['project']['classifiers'] if ':: Python :: 3.' in each]
    assert classifiers == ['3.11', '3.12', '3.13']
    assert PYPROJECT['project']['requires-python'] == f'>={classifiers[0]}'
    assert PYPROJECT['tool']['ruff']['target-version'] == 'py' + classifiers[0].replace('.', '')


def test_messages_and_documents_name_extras_that_exist():
    named = {}
    for path in [*ROOT.glob('*.md'), *(ROOT / 'docs').rglob('*.md'), *(ROOT / 'requirements').glob('*.md'),
                 *(path for folder in SHIPPED for path in (ROOT / folder).rglob('*.py'))]:
        for extras in re.findall(r'vitdet-plugin\[([\w,]+)\]', path.read_text()):
            named.update(dict.fromkeys(extras.split(','), path.name))
    assert {extra: file for extra, file in named.items() if extra not in EXTRAS} == {}
    assert {'openmmlab', 'onnx', 'cam', 'demo'} <= set(named)


@pytest.mark.parametrize(('source', 'expected'), [
    ('import torch.nn', [('torch', True)]),
    ('from cv2 import imread', [('cv2', True)]),
    ('from . import a', []),
    ('def f():\n    import rich.console', [('rich', False)]),
    ('class A:\n    import numpy', [('numpy', True)]),
    ('try:\n    import onnx\nexcept ImportError:\n    pass', [('onnx', True)]),
    ('if TYPE_CHECKING:\n    import onnx', [('onnx', False)]),
])
def test_imports_are_found(tmp_path, source, expected):
    (tmp_path / 'a.py').write_text(source)
    assert imports(tmp_path / 'a.py') == expected
