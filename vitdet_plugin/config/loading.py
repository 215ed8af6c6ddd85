"""Load config files and report each mistake in one line."""

import copy
import errno
import re
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from yaml import YAMLError

from vitdet_plugin import register_all
from vitdet_plugin.compat.versions import require_scope
from vitdet_plugin.config.lost_assignments import warn_about_lost_assignments
from vitdet_plugin.config.names import find_config, moved_config
from vitdet_plugin.config.options import apply_options, parse_options
from vitdet_plugin.config.overrides import override_variables
from vitdet_plugin.config.pipeline_sizes import check_pipeline_sizes
from vitdet_plugin.config.registry import import_scope
from vitdet_plugin.config.upgrade import upgrade_config
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.output import suppress_logs

_READERS = ('fromfile', '_file2dict', '_parse_lazy_import', '_validate_py_syntax', '_is_lazy_import')
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def load_config(path: str | Path | Config, options: Mapping[str, Any] | Sequence[str] = ()) -> Config:
    """Load a config file and apply ``--cfg-options``.

    Args:
        path: File, name of a shipped config, ``PACKAGE::CONFIG``, or a loaded config, which is copied.
        options: ``KEY=VALUE`` words, or a dictionary of dotted keys and values.

    Raises:
        UserError: The file is missing or broken (names file and line), a package that it needs is missing, an option
            does not fit (names similar keys), or a transform has a size that is not above 0.
    """
    real_path = None if isinstance(path, Config) else find_config(str(path))  # before the slow import
    register_all()
    changes = dict(options) if isinstance(options, Mapping) else parse_options(options)
    cfg = copy.deepcopy(path) if real_path is None else _read_config(real_path)
    if real_path is not None:
        warn_about_lost_assignments(cfg)
    if changes:
        try:
            cfg, changes = override_variables(cfg, changes, is_changed=real_path is None and _is_changed(cfg))
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            why = _describe_config_error(error, cfg.filename)
            given = ', '.join(f'{key}={value}' for key, value in changes.items())
            raise UserError(f'--cfg-options {given}: {why}') from error
    scope = cfg.get('default_scope') or 'mmdet'
    require_scope(scope)
    import_scope(scope)
    apply_options(cfg, changes)
    if any(key.split('.')[0] == 'custom_imports' for key in changes) and cfg.custom_imports:
        _import_modules(cfg)
    upgrade_config(cfg)
    check_pipeline_sizes(cfg)
    return cfg


def _read_config(path: str) -> Config:
    try:
        with suppress_logs():  # it logs every environment variable
            return Config.fromfile(path)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a config is a program: it can raise anything
        raise UserError(_describe_config_error(error, path)) from error


def _import_modules(cfg: Config) -> None:
    from mmengine.utils import import_modules_from_strings
    try:
        import_modules_from_strings(**cfg.custom_imports)
    except (ImportError, TypeError) as error:
        raise UserError(f'--cfg-options custom_imports: {error}') from error


def _is_changed(cfg: Config) -> bool:
    """Whether a loaded config differs from its file."""
    if not cfg.filename or not Path(cfg.filename).is_file():
        return True
    return str(_read_config(cfg.filename)._cfg_dict) != str(cfg._cfg_dict)


def _describe_config_error(error: Exception | SystemExit, path: str) -> str:
    file = _config_file_being_read(error) or path
    if isinstance(error, OSError) and error.errno in _FULL:
        return (f'config {file}: its copy in the temporary folder {tempfile.gettempdir()} cannot be written '
                f'({error.strerror}); free some space, or set TMPDIR to another folder')
    if Path(file).suffix in ('.yaml', '.yml', '.json') and isinstance(error, (ValueError, YAMLError)):
        text = re.sub(r'in "[^"]*", ', '', ' '.join(str(error).split()))  # names a temporary copy
        return f'config {file}: {text}'
    if isinstance(error, SyntaxError):
        cause = error if error.lineno else error.__context__
        line = getattr(cause, 'lineno', None)
        text = (getattr(cause, 'text', None) or '').strip()
        shown = f': {text}' if text else ''
        return f'config {file}, line {line}: {getattr(cause, "msg", error)}{shown}'
    if isinstance(error, FileNotFoundError):
        missing = error.filename or str(error)
        new_path = next(filter(None, map(moved_config, re.findall(r'[^"\']+\.py', missing))), None)
        hint = f'. It has moved: use {new_path}' if new_path else ''
        return f'config {path}: a file in its chain of _base_ does not exist: {missing}{hint}'
    if isinstance(error, ImportError) and 'custom modules' in str(error):
        reason: BaseException = error
        while (cause := reason.__cause__ or reason.__context__) is not None:
            reason = cause
        here = '; install it, or add its folder to PYTHONPATH' if isinstance(reason, ModuleNotFoundError) else ''
        return f'config {path}: custom_imports cannot be imported: {reason}{here}'
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if frame.name == '<module>' and '/mmengine/' not in frame.filename and frame.filename.endswith('.py')]
    where = f'config {frames[-1].filename}, line {frames[-1].lineno}' if frames else f'config {file}'
    shown = f': {frames[-1].line}' if frames and frames[-1].line else ''
    return f'{where}: {type(error).__name__}: {" ".join(str(error).split())}{shown}'


def _config_file_being_read(error: BaseException) -> str | None:
    """Return the config or ``_base_`` file being read, from mmengine's stack frames; its message does not name it."""
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        name = frame.f_locals.get('filename')
        is_reading = frame.f_code.co_name in _READERS and isinstance(name, str)  # others read a temporary copy
        if is_reading and frame.f_code.co_filename.endswith('mmengine/config/config.py'):
            found = name
    return found
