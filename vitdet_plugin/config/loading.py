"""Load config files; every mistake in one is reported in one line."""

import traceback
from collections.abc import Sequence

from mmengine.config import Config

from vitdet_plugin.config.names import find_config
from vitdet_plugin.config.options import apply_options, parse_options
from vitdet_plugin.config.registry import import_scope
from vitdet_plugin.config.upgrade import upgrade_config
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.output import suppress_logs


def load_config(path: str, options: Sequence[str] = ()) -> Config:
    """Load a config file and apply ``--cfg-options``.

    Args:
        path: File, or ``mmdet::<path inside mmdet's packaged configs>``.
        options: ``KEY=VALUE`` words.

    Raises:
        UserError: The file is missing or broken (names file and line), or an option does not fit (names near keys).
    """
    real_path = find_config(str(path))
    try:
        with suppress_logs():  # it tells of every environment variable
            cfg = Config.fromfile(real_path)
    except Exception as error:  # a config is a program: anything can come out of it
        raise UserError(_describe_config_error(error, real_path)) from error
    import_scope(cfg.get('default_scope') or 'mmdet')
    apply_options(cfg, parse_options(options))
    upgrade_config(cfg)
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
