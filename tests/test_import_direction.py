"""A subpackage imports only subpackages before it in ``ORDER``; the lowest ones stay free of mmdet and mmpretrain."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = 'vitdet_plugin'
# lowest first; each may import itself and everything before it, siblings included
ORDER = ('runtime', 'errors', 'utils', 'coco', 'compat', 'config', 'ops', 'ops_dcnv3', 'layers', 'backbones', 'necks',
         'heads', 'detectors', 'checkpoints', 'transforms', 'datasets', 'engine', 'evaluation', 'visualization',
         'export', 'demo', 'prediction', 'api', 'bench', 'serving', 'gpu_check', 'cli', '__main__', 'tools')
LEVEL = {name: level for level, name in enumerate(ORDER)}
REGISTRATION = ('__init__', 'registration')  # these modules import every subpackage
WITHOUT_DETECTION = ('utils', 'ops', 'ops_dcnv3', 'layers', 'backbones')
FOREIGN = ('mmdet', 'mmpretrain')
DRIVERS = ('benchmarks', 'tests')  # they may import anything, and nothing may import them
# `vitdet goldens` and `gpu-check` run the parity checkers of a checkout
EXCEPT = {('cli', 'tests.parity'), ('gpu_check', 'tests.parity')}


def modules(root: Path):
    """Subpackage and file of every module that the rule covers."""
    for path in sorted((root / PACKAGE).rglob('*.py')):
        subpackage = path.relative_to(root / PACKAGE).parts[0].removesuffix('.py')
        if subpackage not in REGISTRATION:
            yield subpackage, path
    for subpackage in ('ops_dcnv3', 'demo', 'tools'):
        for path in sorted((root / subpackage).rglob('*.py')):
            yield subpackage, path


def imported(path: Path, root: Path):
    """Line number and absolute dotted name of everything that a file imports, wherever in the file."""
    home = path.relative_to(root).with_suffix('').parts
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = '.'.join(home[:len(home) - node.level]) if node.level else ''
            name = '.'.join(part for part in (base, node.module) if part)
            for alias in node.names:
                yield node.lineno, f'{name}.{alias.name}'


def target_subpackage(name: str) -> str | None:
    """Subpackage of a dotted name; None for names that the rule does not cover."""
    first, *rest = name.split('.')
    if first == PACKAGE and rest and rest[0] in LEVEL:
        return rest[0]
    return first if first in ('ops_dcnv3', 'demo', 'tools', *DRIVERS) else None


def violations(root: Path) -> list[str]:
    found = []
    for subpackage, path in modules(root):
        where = path.relative_to(root)
        if subpackage not in LEVEL:
            found.append(f'{where}: subpackage {subpackage} has no position in ORDER of {Path(__file__).name}')
            continue
        for line, name in imported(path, root):
            target = target_subpackage(name)
            if any(subpackage == above and f'{name}.'.startswith(f'{below}.') for above, below in EXCEPT):
                continue
            if target in DRIVERS or (target in LEVEL and LEVEL[target] > LEVEL[subpackage]):
                found.append(f'{where}:{line}: {subpackage} imports {name}, which comes after it in the import order')
            if subpackage in WITHOUT_DETECTION and name.split('.')[0] in FOREIGN:
                found.append(f'{where}:{line}: {subpackage} imports {name}, but classifiers share this subpackage')
    return found


def test_package_keeps_the_import_order():
    assert violations(ROOT) == []


def test_no_module_imports_private_names_of_another():
    found = [f'{path.relative_to(ROOT)}:{line}: {name}'
             for _, path in modules(ROOT) for line, name in imported(path, ROOT)
             if target_subpackage(name) and name.rpartition('.')[2].startswith('_')]
    assert found == []


@pytest.mark.parametrize(('path', 'source', 'message'), [
    ('vitdet_plugin/layers/a.py', 'from vitdet_plugin.necks import fpn', 'layers imports vitdet_plugin.necks.fpn'),
    ('vitdet_plugin/layers/a.py', 'from vitdet_plugin import datasets', 'layers imports vitdet_plugin.datasets'),
    ('vitdet_plugin/layers/a.py', 'from ..engine.decay import x', 'layers imports vitdet_plugin.engine.decay.x'),
    ('vitdet_plugin/layers/a.py', 'def f():\n    import vitdet_plugin.api', 'a.py:2: layers imports vitdet_plugin.api'),
    ('vitdet_plugin/api.py', 'import tools.train', 'api imports tools.train'),
    ('vitdet_plugin/datasets/a.py', 'import benchmarks', 'datasets imports benchmarks'),
    ('vitdet_plugin/backbones/a.py', 'import vitdet_plugin.heads.b', 'backbones imports vitdet_plugin.heads.b'),
    ('vitdet_plugin/datasets/a.py', 'from vitdet_plugin.engine import b', 'datasets imports vitdet_plugin.engine.b'),
    ('vitdet_plugin/backbones/a.py', 'from mmdet.models import ResNet', 'backbones imports mmdet.models.ResNet'),
    ('ops_dcnv3/a.py', 'import mmpretrain', 'ops_dcnv3 imports mmpretrain'),
    ('vitdet_plugin/unlisted/a.py', '', 'subpackage unlisted has no position'),
])
def test_a_violation_is_found(tmp_path, path, source, message):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(source)
    found = violations(tmp_path)
    assert len(found) == 1
    assert message in found[0]


@pytest.mark.parametrize(('path', 'source'), [
    ('vitdet_plugin/heads/a.py', 'from mmdet.models import ResNet\nfrom vitdet_plugin.layers.norm import LayerNorm2d'),
    ('vitdet_plugin/backbones/a.py', 'from vitdet_plugin.errors import UserError\nimport ops_dcnv3, torch'),
    ('vitdet_plugin/engine/a.py', 'from . import b\nfrom vitdet_plugin.datasets import c'),
    ('tools/train.py', 'from vitdet_plugin.api import load'),
])
def test_allowed_imports_pass(tmp_path, path, source):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(source)
    assert violations(tmp_path) == []
