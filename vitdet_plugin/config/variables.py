"""Evaluate a config file with other values of its variables, for ``--cfg-options``.

Configs in text format compute their sections from variables (``data_root``, ``max_iters``, ``metainfo``) while the
file is read. Merging an option afterwards would change the variable only. Here each assignment to an overridden
variable, in the file and in all files of its ``_base_`` chain, takes the new value, so that everything computed from it
follows.
"""

import ast
import copy
import functools
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.config.utils import RemoveAssignFromAST
from mmengine.fileio import load

from vitdet_plugin.compat.patching import with_globals

_SET = '__vitdet_set__'  # names with two underscores are not part of a config
_BASE_VARIABLE = re.compile(r'_(\w+?)(?:\.[\w.]*)?_[0-9a-f]{6}\b')  # mmengine's replacement for {{_base_.name}}


@dataclass
class Variables:
    """The variables of a config, recorded while its files are evaluated.

    Attributes:
        options: Dotted keys and new values.
        sections: Names that keep their value if it is a dictionary or a list.
        assigned: Names of all variables.
        used: Names of the variables that any file reads.
    """

    options: Mapping[str, Any]
    sections: Collection[str] = ()
    assigned: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)

    def overridden(self, name: str, value: Any) -> Any:
        """Return the value of a variable after the options are applied; parts of it that do not exist are skipped."""
        if name in self.sections and isinstance(value, (dict, list, tuple)):
            return value
        for key, option in self.options.items():
            root, *parts = key.split('.')
            if root == name:
                try:
                    value = with_option(value, parts, option)
                except (KeyError, TypeError, IndexError, ValueError):  # this file has another structure
                    pass
        return value


def evaluate_config(path: str, variables: Variables) -> Config:
    """Read a config file in text, JSON or YAML format while its variables are overridden.

    Args:
        path: Config file; its ``custom_imports`` are not executed.
        variables: What to override; ``assigned`` and ``used`` are filled in.

    Raises:
        Exception: Anything that the files raise, as for ``Config.fromfile``.
    """
    names = {key.split('.')[0] for key in variables.options}

    class Overridden(Config):  # stands for Config within the copied function, which calls itself for each base
        pass

    def evaluate(code: Any, global_names: dict, local_names: dict) -> None:
        global_names[_SET] = variables.overridden
        eval(code, global_names, local_names)

    def load_values(file: str) -> dict[str, Any]:
        values = load(file)
        variables.assigned.update(values)
        variables.used.update(_BASE_VARIABLE.findall(str(values)))
        return {name: variables.overridden(name, value) for name, value in values.items()}

    Overridden._file2dict = staticmethod(with_globals(  # type: ignore[method-assign]
        Config._file2dict, Config=Overridden, eval=evaluate, load=load_values,
        RemoveAssignFromAST=functools.partial(_Rewriter, names, variables)))
    values, text, environment = Overridden._file2dict(path)
    return Config(values, cfg_text=text, filename=path, env_variables=environment)


def with_option(node: Any, parts: list[str], value: Any) -> Any:
    """Return a copy of a config node in which the value at a path is replaced; dictionaries are merged.

    Args:
        node: Dictionary, list, tuple or value.
        parts: Keys and list indices; missing dictionaries are created.
        value: New value; a dictionary with ``_delete_=True`` replaces the old one.

    Raises:
        TypeError: The path leads through a value without keys, or a dictionary is merged into one.
        IndexError: A list index is out of range.
        ValueError: A list index is not a number.
    """
    if not parts:
        value = copy.deepcopy(value)
        if not isinstance(value, dict) or value.pop('_delete_', False) or not isinstance(node, (dict, list)):
            return value
        return Config._merge_a_into_b(value, node, allow_list_keys=True)
    part, *rest = parts
    if isinstance(node, (list, tuple)):
        items = list(node)
        items[int(part)] = with_option(items[int(part)], rest, value)
        return type(node)(items)
    if node is None:
        node = ConfigDict()
    if not isinstance(node, dict):
        raise TypeError(f'{node!r} has no keys')
    if part == '_delete_' and not rest:
        return type(node)() if value else node
    node = node.copy()
    node[part] = with_option(node.get(part), rest, value)
    return node


class _Rewriter:
    """Replaces mmengine's ``RemoveAssignFromAST``: also sets the overridden variables after each statement."""

    def __init__(self, names: set[str], variables: Variables, base_key: str) -> None:
        self._names, self._variables, self._base_key = names, variables, base_key

    def visit(self, module: ast.Module) -> ast.Module:
        module = RemoveAssignFromAST(self._base_key).visit(module)
        self._variables.used.update(_names_read(module, self._base_key))
        module.body = self._with_overrides(module.body)
        return ast.fix_missing_locations(module)

    def _with_overrides(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        extended: list[ast.stmt] = []
        for statement in statements:
            extended.append(statement)
            bound = set(names_bound(statement))
            self._variables.assigned |= bound
            for name in sorted(bound & self._names):
                (line,) = ast.parse(f'{name} = {_SET}({name!r}, {name})').body
                extended += [ast.copy_location(line, statement)]
            if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                for owner in [statement, *getattr(statement, 'handlers', ()), *getattr(statement, 'cases', ())]:
                    for block in ('body', 'orelse', 'finalbody'):
                        if getattr(owner, block, None):
                            setattr(owner, block, self._with_overrides(getattr(owner, block)))
        return extended


def names_bound(statement: ast.stmt) -> Iterator[str]:
    """Yield the variables that a statement assigns, or may change by a method or in part."""
    if isinstance(statement, ast.Assign):
        targets: list[ast.expr] = list(statement.targets)
    elif isinstance(statement, (ast.AugAssign, ast.For)) or isinstance(statement, ast.AnnAssign) and statement.value:
        targets = [statement.target]
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        targets = [statement.value.func] if isinstance(statement.value.func, ast.Attribute) else []
    else:
        targets = []
    while targets:
        target = targets.pop()
        if isinstance(target, (ast.Tuple, ast.List)):
            targets += target.elts
        elif isinstance(target, ast.Name):
            yield target.id
        elif isinstance(target, (ast.Starred, ast.Subscript, ast.Attribute)):
            targets.append(target.value)


def _names_read(module: ast.Module, base_key: str) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == base_key:
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _BASE_VARIABLE.findall(node.value)
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == base_key:
            yield getattr(node.slice, 'value', '')  # _base_['name']
