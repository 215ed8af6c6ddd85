"""Files of checkpoints, and those in the work directory of a training run."""

from pathlib import Path

from vitdet_plugin.checkpoints.published import is_name
from vitdet_plugin.compat.file_kinds import has_weight_suffix

CHECKPOINT_NAMES = 'best_*.pth, iter_*.pth, epoch_*.pth'


def holds_weights(path: str | Path) -> bool:
    """Whether a path has the suffix of a checkpoint, is a folder with checkpoints or a name of published weights."""
    return has_weight_suffix(path) or any(Path(path).glob('*.pth')) or is_name(path)


def list_checkpoints(work_dir: str | Path) -> list[Path]:
    """Return the checkpoints in ``work_dir`` from newest to oldest, the one that ``last_checkpoint`` names first.

    The files are not read. One that was moved together with the folder is found, too.
    """
    folder, note = Path(work_dir), Path(work_dir) / 'last_checkpoint'
    checkpoints = []
    if note.is_file():
        named = Path(note.read_text(errors='replace').strip())
        checkpoints = [path for path in (folder / named.name, named) if named.name and path.exists()][:1]
    files = [path for pattern in ('epoch_*.pth', 'iter_*.pth') for path in folder.glob(pattern)]
    return checkpoints + sorted(files, key=lambda path: path.stat().st_mtime, reverse=True)


def choose_checkpoint(path: Path) -> Path:
    """Return the best checkpoint of a work directory, else the newest; other paths and folders are returned as given.

    The files are not read.
    """
    if not path.is_dir():
        return path
    best = sorted(path.glob('best_*.pth'), key=lambda file: file.stat().st_mtime, reverse=True)
    return next((file for file in [*best, *list_checkpoints(path)] if file.is_file()), path)
