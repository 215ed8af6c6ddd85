"""Files of checkpoints, and those in the work directory of a training run."""

from functools import cache
from pathlib import Path

from vitdet_plugin.checkpoints.published import is_name
from vitdet_plugin.compat.file_kinds import has_weight_suffix
from vitdet_plugin.utils.output import warn

STEPS = ('iter_*.pth', 'epoch_*.pth')  # these hold the state of a training
CHECKPOINT_NAMES = ', '.join(('best_*.pth', *STEPS))


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
    files = [path for pattern in STEPS for path in folder.glob(pattern)]
    return checkpoints + sorted(files, key=lambda path: path.stat().st_mtime, reverse=True)


def choose_checkpoint(path: Path, takes_sharded: bool = False) -> Path:
    """Return the best intact checkpoint of a work directory, else the newest; other paths are returned as given.

    Checking a file loads it, so within ``keep_files`` a later load does not read it again.

    Args:
        path: A work directory, or anything else. A folder without an intact checkpoint is returned as given.
        takes_sharded: Whether a sharded checkpoint, which is a folder, may be chosen; it is not checked.
    """
    if not path.is_dir():
        return path
    best = sorted(path.glob('best_*.pth'), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in [*best, *list_checkpoints(path)]:
        if not file.is_dir() or takes_sharded:
            reason = find_damage(file)
            if reason is None:
                return file
            _warn_of_damage(file, reason)
    return path


def find_damage(path: str | Path) -> str | None:
    """Return the reason why a checkpoint is not intact, or None; the checksums of all its data are verified.

    Sharded checkpoints, which are folders, are not read.
    """
    from vitdet_plugin.compat.safe_load import DamagedFileError, load_checkpoint_file
    try:
        if not Path(path).is_dir():
            load_checkpoint_file(path, check=True)
    except DamagedFileError as error:
        return error.reason
    return None


@cache
def _warn_of_damage(path: Path, reason: str) -> None:
    warn(f'{path} is skipped: {reason}')
