"""Find config and checkpoint of a model that is given as one path."""

from __future__ import annotations

from pathlib import Path

from vitdet_plugin.datasets.own_data.config_text import RUN
from vitdet_plugin.errors import UserError
from vitdet_plugin.runtime.backends import SUFFIXES

CHECKPOINTS = ('.pth', '.pt', '.pkl', '.safetensors')


def is_exported(name: str | Path) -> bool:
    """Whether a name is that of a file of ``vitdet export``: ONNX, or OpenVINO's XML."""
    return str(name).lower().endswith(SUFFIXES)


def stands_alone(name: str | Path) -> bool:
    """Whether a name is a whole model: an exported file, a work directory, or a checkpoint in one; not a config."""
    path = Path(name).expanduser()
    return is_exported(name) or path.is_dir() or path.suffix.lower() in CHECKPOINTS and path.is_file()


def find_run(name: str | Path) -> tuple[Path, Path]:
    """Return config and checkpoint (or folder of checkpoints) of a work directory or of a checkpoint in one.

    Training writes its config into the work directory. If there are several, the one of the newest training is used.

    Args:
        name: A work directory, a folder of ``vitdet init``, or a checkpoint.

    Raises:
        UserError: The folder has no config, or no checkpoint.
    """
    path = Path(name).expanduser()
    if not path.is_dir():
        config = _config_in(path.parent)
        if config is None:
            raise UserError(f'{path}: {path.parent} holds no config of a training; give the config before the '
                            'checkpoint')
        return config, path
    folder = checkpoint_folder(path)
    config = _config_in(folder) or _config_in(path)
    if config is None:
        raise UserError(f'{folder} holds checkpoints but no config; give the config before it')
    return config, folder


def checkpoint_folder(name: str | Path) -> Path:
    """Return the folder with checkpoints of a work directory or of a folder of ``vitdet init``.

    Raises:
        UserError: It is not a folder, or there are no checkpoints.
    """
    path = Path(name).expanduser()
    if not path.is_dir():
        raise UserError(f'{name} is a config; give a checkpoint after it, or a folder of "vitdet init" or "vitdet '
                        'train" in place of both')
    for folder in (path, path / RUN):
        if any(folder.glob('*.pth')) or (folder / 'last_checkpoint').is_file():
            return folder
    raise UserError(f'{path} holds no checkpoint (best_*.pth, iter_*.pth, epoch_*.pth); train first (vitdet train '
                    f'{path}), or give another folder')


def _config_in(folder: Path) -> Path | None:
    """Return the config of the newest training in a work directory; mmengine also keeps one for each training."""
    own = sorted(folder.glob('*.py'), key=lambda file: file.stat().st_mtime)
    kept = sorted(folder.glob('*/vis_data/config.py'), key=lambda file: file.stat().st_mtime)
    return own[-1] if own else kept[-1] if kept else None
