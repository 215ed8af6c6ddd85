"""Find config and checkpoint of a model that is given as one path."""

from __future__ import annotations

from pathlib import Path

from vitdet_plugin.checkpoints.work_dirs import CHECKPOINT_NAMES
from vitdet_plugin.compat.file_kinds import has_weight_suffix
from vitdet_plugin.datasets.own_data.config_text import RUN
from vitdet_plugin.errors import UserError
from vitdet_plugin.runtime.backends import SUFFIXES

# end of the name of an exported file that is not predicted here, or of a part of one -> what it is, what to give
_ADVICE = {
    '.pt2': 'is a program for torch.export.load; export the model with --format onnx, or give its work '
            'directory',
    '.torchscript': 'is a program for torch.jit.load; export the model with --format onnx, or give its '
                    'work directory',
    '.onnx.data': 'holds the weights of an ONNX file; give the .onnx file next to it',
    '.bin': 'holds the weights of an OpenVINO file; give the .xml file next to it'}


def is_exported(name: str | Path) -> bool:
    """Whether a name is that of a file of ``vitdet export``: ONNX, or OpenVINO's XML."""
    return str(name).lower().endswith(SUFFIXES)


def stands_alone(name: str | Path) -> bool:
    """Whether a name is a whole model: an exported file, a work directory, or a checkpoint in one; not a config."""
    path = Path(name).expanduser()
    return is_exported(name) or path.is_dir() or bool(_advice(path)) or (
        has_weight_suffix(path) and path.is_file())


def find_run(name: str | Path) -> tuple[Path, Path]:
    """Return config and checkpoint (or folder of checkpoints) of a work directory or of a checkpoint in one.

    Training writes its config into the work directory. If there are several, the one of the newest training is used.

    Args:
        name: A work directory, a folder of ``vitdet init``, or a checkpoint.

    Raises:
        UserError: The folder has no config, or no checkpoint, or it is an exported file.
    """
    path = Path(name).expanduser()
    if advice := _advice(path):
        raise UserError(f'{path} {advice}')
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
    raise UserError(f'{path} holds no checkpoint ({CHECKPOINT_NAMES}); train first (vitdet train '
                    f'{path}), or give another folder')


def _advice(path: Path) -> str | None:
    """Return what to give in place of a file of :data:`_ADVICE`; None for another one."""
    if path.is_dir() or path.suffix.lower() == '.bin' and not path.with_suffix('.xml').is_file():
        return None
    advice = next((text for end, text in _ADVICE.items() if path.name.lower().endswith(end)), None)
    return advice and (advice if path.is_file() else 'does not exist; give a work directory, or a file of "vitdet '
                                                     'export" (.onnx, .xml)')


def _config_in(folder: Path) -> Path | None:
    """Return the config of the newest training in a work directory; mmengine also keeps one for each training."""
    own = sorted(folder.glob('*.py'), key=lambda file: file.stat().st_mtime)
    kept = sorted(folder.glob('*/vis_data/config.py'), key=lambda file: file.stat().st_mtime)
    return own[-1] if own else kept[-1] if kept else None
