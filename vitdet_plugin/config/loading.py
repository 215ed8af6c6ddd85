"""Load config files and report each mistake in one line."""

import re
import traceback
from collections.abc import Sequence

from mmengine.config import Config

from vitdet_plugin.config.names import find_config, moved_config
from vitdet_plugin.config.options import apply_options, parse_options
from vitdet_plugin.config.registry import import_scope
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.output import suppress_logs


def load_config(path: str, options: Sequence[str] = ()) -> Config:
    """Load a config file and apply ``--cfg-options``.

    Args:
        path: A file, the name of a shipped config, or ``mmdet::<path inside mmdet's packaged configs>``.
        options: Strings of the form ``KEY=VALUE``.

    Raises:
        UserError: The file is missing or broken (with file and line), or an option is invalid (with similar keys).
    """
    real_path = find_config(str(path))
    try:
        with suppress_logs():  # mmengine logs every environment variable it inserts
            cfg = Config.fromfile(real_path)
    except Exception as error:  # a config is a program and can raise anything
        raise UserError(_describe_config_error(error, real_path)) from error
    import_scope(cfg.get('default_scope') or 'mmdet')
    apply_options(cfg, parse_options(options))
    return cfg


def _describe_config_error(error: Exception, path: str) -> str:
    file = _config_file_being_read(error) or path
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
        return f'config {path}: custom_imports cannot be imported: {error.__context__ or error}'
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if frame.name == '<module>' and '/mmengine/' not in frame.filename and frame.filename.endswith('.py')]
    where = f'config {frames[-1].filename}, line {frames[-1].lineno}' if frames else f'config {file}'
    return f'{where}: {type(error).__name__}: {" ".join(str(error).split())}'


def _config_file_being_read(error: Exception) -> str | None:
    """Return the file being read, the config or one of its ``_base_``, from mmengine's frames: its message lacks it."""
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        name = frame.f_locals.get('filename')
        if frame.f_code.co_filename.endswith('mmengine/config/config.py') and isinstance(name, str):
            found = name
    return found
