"""A room of the package imports only rooms below it, and the lowest ones stay free of mmdet and mmpretrain."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = 'vitdet_plugin'
# each group may import itself and every group before it
GROUPS = [('errors',), ('compat',), ('layers', 'ops_dcnv3'), ('backbones', 'necks', 'heads'),
          ('checkpoints', 'checks', 'engine', 'data', 'evaluation'), ('export', 'visualization'), ('api',), ('tools',)]
LEVEL = {room: level for level, group in enumerate(GROUPS) for room in group}
WITHOUT_DETECTION = ('layers', 'backbones', 'ops_dcnv3')
FOREIGN = ('mmdet', 'mmpretrain')
DRIVERS = ('benchmarks', 'tests', 'demo')  # they may import anything, and nothing may import them


def modules(root: Path):
    """Room and file of every module that the rule is about."""
    for path in sorted((root / PACKAGE).rglob('*.py')):
        room = path.relative_to(root / PACKAGE).parts[0].removesuffix('.py')
        if room != '__init__':  # the package itself installs compat and registers all rooms
            yield room, path
    for room in ('ops_dcnv3', 'tools'):
        for path in sorted((root / room).rglob('*.py')):
            yield room, path


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


def target_room(name: str) -> str | None:
    """Room that a dotted name belongs to; None for what the rule does not cover."""
    first, *rest = name.split('.')
    if first == PACKAGE and rest and rest[0] in LEVEL:
        return rest[0]
    return first if first in ('ops_dcnv3', 'tools', *DRIVERS) else None


def violations(root: Path) -> list[str]:
    found = []
    for room, path in modules(root):
        where = path.relative_to(root)
        if room not in LEVEL:
            found.append(f'{where}: room {room} has no place in the import direction; add it to {Path(__file__).name}')
            continue
        for line, name in imported(path, root):
            target = target_room(name)
            if target in DRIVERS or (target in LEVEL and LEVEL[target] > LEVEL[room]):
                found.append(f'{where}:{line}: {room} imports {name}, which stands above it')
            if room in WITHOUT_DETECTION and name.split('.')[0] in FOREIGN:
                found.append(f'{where}:{line}: {room} imports {name}; detection and classification share this room')
    return found


def test_the_package_keeps_the_direction():
    assert violations(ROOT) == []


def test_no_module_imports_what_another_keeps_to_itself():
    found = [f'{path.relative_to(ROOT)}:{line}: {name}'
             for _, path in modules(ROOT) for line, name in imported(path, ROOT)
             if target_room(name) and name.rpartition('.')[2].startswith('_')]
    assert found == []


@pytest.mark.parametrize(('path', 'source', 'message'), [
    ('vitdet_plugin/layers/a.py', 'from vitdet_plugin.necks import fpn', 'layers imports vitdet_plugin.necks.fpn'),
    ('vitdet_plugin/layers/a.py', 'from vitdet_plugin import data', 'layers imports vitdet_plugin.data'),
    ('vitdet_plugin/layers/a.py', 'from ..engine.decay import x', 'layers imports vitdet_plugin.engine.decay.x'),
    ('vitdet_plugin/layers/a.py', 'def f():\n    import vitdet_plugin.api', 'a.py:2: layers imports vitdet_plugin.api'),
    ('vitdet_plugin/api.py', 'import tools.train', 'api imports tools.train'),
    ('vitdet_plugin/data/a.py', 'import benchmarks', 'data imports benchmarks'),
    ('vitdet_plugin/backbones/a.py', 'from mmdet.models import ResNet', 'backbones imports mmdet.models.ResNet'),
    ('ops_dcnv3/a.py', 'import mmpretrain', 'ops_dcnv3 imports mmpretrain'),
    ('vitdet_plugin/cellar/a.py', '', 'room cellar has no place'),
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
    ('vitdet_plugin/engine/a.py', 'from . import b\nfrom vitdet_plugin.data import c'),
    ('tools/train.py', 'from vitdet_plugin.api import load'),
])
def test_what_is_allowed_passes(tmp_path, path, source):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(source)
    assert violations(tmp_path) == []
