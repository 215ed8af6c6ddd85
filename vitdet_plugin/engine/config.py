"""Reading a config and changing it from the command line; every mistake ends as one line."""

import difflib
import inspect
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction

from vitdet_plugin.engine.console import without_chatter, without_prints
from vitdet_plugin.errors import UserError

CONFIG_DIR = Path(__file__).resolve().parents[2] / 'configs'

# Top-level keys that a runner or a tool reads although few configs write them down.
_RUNNER_KEYS = ('compile', 'sync_bn', 'find_unused_parameters', 'efficient_conv_bn_eval', 'activation_checkpointing',
                'model_wrapper_cfg', 'strategy', 'runner_type', 'tta_model', 'tta_pipeline', 'custom_imports')


def near(word: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """Return a hint such as `` (near: lr, lr_mult)``, or an empty string when nothing resembles ``word``."""
    folded = {str(name).lower(): str(name) for name in known}
    found = [folded[name] for name in difflib.get_close_matches(word.lower(), sorted(folded), n=3, cutoff=likeness)]
    return f' (near: {", ".join(found)})' if found else ''


def load_config(path: str, options: Sequence[str] = ()) -> Config:
    """Load a config file and apply ``--cfg-options``.

    Args:
        path: File, or ``mmdet::<path inside mmdet's packaged configs>``.
        options: ``KEY=VALUE`` words.

    Raises:
        UserError: The file is missing or broken (names file and line), or an option does not fit (names near keys).
    """
    real_path = _find_config(str(path))
    try:
        with without_chatter():  # it tells of every environment variable
            cfg = Config.fromfile(real_path)
    except Exception as error:  # a config is a program: anything can come out of it
        raise UserError(_describe_config_error(error, real_path)) from error
    import_scope(cfg.get('default_scope') or 'mmdet')
    apply_options(cfg, parse_options(options))
    return cfg


def _find_config(path: str) -> str:
    if '::' in path:
        try:
            return Config._get_cfg_path(path, str(Path.cwd() / 'config.py'))[0]
        except Exception as error:
            raise UserError(f'config {path}: not among the configs of the package before "::" ({error})') from error
    if not Path(path).expanduser().is_file():
        known = {str(file.relative_to(CONFIG_DIR.parent)) for file in CONFIG_DIR.rglob('*.py')}
        by_name = {Path(name).name: name for name in known}
        matches = difflib.get_close_matches(Path(path).name, by_name, n=3, cutoff=0.6)
        hint = f' (near: {", ".join(by_name[name] for name in matches)})' if matches else ''
        raise UserError(f'config {path} does not exist{hint}')
    if Path(path).suffix not in ('.py', '.json', '.yaml', '.yml'):
        raise UserError(f'config {path}: a config is a .py, .json or .yaml file'
                        + ('; for a checkpoint write the config before it' if path.endswith('.pth') else ''))
    return path


def _describe_config_error(error: Exception, path: str) -> str:
    file = _config_file_being_read(error) or path
    if isinstance(error, SyntaxError):
        cause = error if error.lineno else error.__context__
        line = getattr(cause, 'lineno', None)
        text = (getattr(cause, 'text', None) or '').strip()
        shown = f': {text}' if text else ''
        return f'config {file}, line {line}: {getattr(cause, "msg", error)}{shown}'
    if isinstance(error, FileNotFoundError):
        return f'config {path}: a file in its chain of _base_ is missing: {error.filename or error}'
    if isinstance(error, ImportError) and 'custom modules' in str(error):
        return f'config {path}: custom_imports cannot be imported: {error.__context__ or error}'
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if frame.name == '<module>' and '/mmengine/' not in frame.filename and frame.filename.endswith('.py')]
    where = f'config {frames[-1].filename}, line {frames[-1].lineno}' if frames else f'config {file}'
    return f'{where}: {type(error).__name__}: {" ".join(str(error).split())}'


def _config_file_being_read(error: Exception) -> str | None:
    """mmengine does not say which of the ``_base_`` files is broken; its frames know."""
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        name = frame.f_locals.get('filename')
        if frame.f_code.co_filename.endswith('mmengine/config/config.py') and isinstance(name, str):
            found = name
    return found


def parse_options(words: Sequence[str]) -> dict[str, Any]:
    """Turn ``['a.b=1', 'c=[x,y]']`` into ``{'a.b': 1, 'c': ['x', 'y']}``; values as mmengine's DictAction reads them.

    Raises:
        UserError: A word has no ``=``, or brackets do not match.
    """
    options = {}
    for word in words:
        key, equals, value = word.partition('=')
        if not equals or not key:
            raise UserError(f'--cfg-options {word}: expected KEY=VALUE without blanks around "="')
        if any(value.count(opening) != value.count(closing) for opening, closing in ('[]', '()')):
            raise UserError(f'--cfg-options {word}: brackets do not match')
        options[key] = DictAction._parse_iterable(value)
    return options


def apply_options(cfg: Config, options: dict[str, Any]) -> None:
    """Merge options into ``cfg`` in place; a key that nothing would read is refused.

    Raises:
        UserError: Unknown key (names near ones), list index out of range, or text where the config has a number.
    """
    for key, value in options.items():
        _check_option(cfg, key, value)
        try:
            cfg.merge_from_dict({key: value})
        except (KeyError, TypeError, IndexError) as error:
            raise UserError(f'--cfg-options {key}: {" ".join(str(error).split())}') from error


def _check_option(cfg: Config, key: str, value: Any) -> None:
    node: Any = cfg._cfg_dict
    parts = key.split('.')
    for depth, part in enumerate(parts):
        here = '.'.join(parts[:depth]) or 'the config'
        if isinstance(node, (list, tuple)):
            if not part.isdigit() or int(part) >= len(node):
                raise UserError(f'--cfg-options {key}: {here} is a list of {len(node)}; write an index below that')
            node = node[int(part)]
        elif isinstance(node, dict):
            if part not in node:
                _check_new_key(node, part, here, key, is_last=depth == len(parts) - 1, depth=depth)
                return
            node = node[part]
        elif node is None:
            return  # None stands for "not set": merging replaces it
        else:
            raise UserError(f'--cfg-options {key}: {here} is {node!r} and has no keys')
    if isinstance(value, str) and isinstance(node, (int, float)):
        raise UserError(f'--cfg-options {key}={value}: the config has a number here ({node!r})')


def _check_new_key(node: dict, part: str, here: str, key: str, is_last: bool, depth: int) -> None:
    accepted = _accepted_keys(node, here) if depth else _top_level_keys()
    if part == '_delete_' or part in (accepted or ()):
        return
    strict = accepted is not None and '**' not in accepted
    hint = near(part, set(node) | set(accepted or ()), likeness=0.6 if strict else 0.7)
    if strict or hint or not is_last:
        raise UserError(f'--cfg-options {key}: {here} has no key {part!r}{hint}')


def _top_level_keys() -> dict[str, Any]:
    from mmengine.runner import Runner
    return dict.fromkeys([*inspect.signature(Runner.__init__).parameters, *_RUNNER_KEYS], True)


def _accepted_keys(node: dict, here: str) -> dict[str, Any] | None:
    """Names that the thing described by ``node`` takes; ``'**'`` marks that it takes others too; None: not known."""
    accepted: dict[str, Any] = {}
    for function in _functions_behind(node, here):
        for name, parameter in inspect.signature(function).parameters.items():
            accepted['**' if parameter.kind is parameter.VAR_KEYWORD else name] = True
    return accepted or None


def _functions_behind(node: dict, here: str) -> list[Callable]:
    if isinstance(node.get('type'), str):
        found = find_registered(node['type'])
        if inspect.isclass(found):  # **kwargs go on to the bases
            return [base.__init__ for base in found.__mro__ if '__init__' in vars(base) and base is not object]
        return [found] if found is not None else []
    from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner, TestLoop, ValLoop
    from torch.utils.data import DataLoader
    known = {
        'train_cfg': [EpochBasedTrainLoop, IterBasedTrainLoop, lambda by_epoch: None],
        'val_cfg': [ValLoop], 'test_cfg': [TestLoop],
        'randomness': [Runner.set_randomness],
        'auto_scale_lr': [lambda enable, base_batch_size: None],
    }
    known.update(dict.fromkeys(('train_dataloader', 'val_dataloader', 'test_dataloader'), [DataLoader]))
    return known.get(here, [])


def find_registered(name: str) -> Callable | None:
    """Return the class or function registered under ``name`` in any registry and scope, or None."""
    bare = name.split('.')[-1]
    for registry in all_registries():
        if bare in registry.module_dict:
            return registry.module_dict[bare]
    return None


def import_scope(scope: str) -> None:
    """Fill the registries of a package of the stack, mmdet or mmpretrain; by themselves they do so when first asked."""
    with without_prints():  # the forks print that an optional data service is absent
        for registry in all_registries():
            if registry.scope == scope:
                registry.import_from_location()


def is_classifier(cfg: Config) -> bool:
    """Whether ``cfg.model`` is one of mmpretrain's classifiers."""
    found = find_registered(str((cfg.get('model') or {}).get('type')))
    return inspect.isclass(found) and any(base.__name__ == 'BaseClassifier' for base in found.__mro__)


def all_registries() -> list[Any]:
    """Every registry: mmengine's roots and their children (mmdet's, mmpretrain's, …)."""
    from mmengine import registry as rooms
    roots = [value for value in vars(rooms).values() if isinstance(value, rooms.Registry)]
    found, queue = [], roots
    while queue:
        registry = queue.pop()
        if all(registry is not other for other in found):
            found.append(registry)
            queue.extend(registry.children.values())
    return found
