"""Unpack a downloaded archive (zip, tar) into a folder next to it."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from vitdet_plugin.datasets.image_files import SYSTEM_FILES
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.track import track

_SUFFIXES = ('.tar.gz', '.tar.bz2', '.tar.xz', '.tgz', '.tar', '.zip')
_UNREADABLE = ('.7z', '.rar', '.gz', '.bz2', '.xz')
_MOST_FILES = 5_000_000
_SPARE_BYTES = 256 << 20  # of the disk, to be left


class _Member(NamedTuple):
    path: PurePosixPath
    size: int
    info: zipfile.ZipInfo | tarfile.TarInfo


@contextmanager
def unpacked(path: Path, is_temporary: bool = False) -> Iterator[Path]:
    """Yield the folder of an archive's files; other files and folders are yielded as they are.

    The files are unpacked into a folder of the archive's name next to it, which appears when it is complete and is
    used again the next time.

    Args:
        path: Archive, or another file or folder.
        is_temporary: Unpack into a temporary folder that is removed afterwards.

    Raises:
        UserError: The archive is damaged, has a password, unsafe paths, or no space on the disk, or a folder of that
            name has other files.
    """
    suffix = archive_suffix(path)
    if suffix is None or not path.is_file():
        yield path
        return
    if suffix in _UNREADABLE:
        raise UserError(f'{path} is an archive of a kind that is not read; unpack it, and give the folder')
    folder = folder_of_archive(path)
    if is_temporary and not folder.exists():
        with tempfile.TemporaryDirectory() as parent, _open(path) as archive:
            folder = Path(parent) / folder.name
            folder.mkdir()
            _unpack(path, archive, folder)
            yield folder
        return
    with _open(path) as archive:
        if folder.exists():
            if missing := _missing(path, archive, folder):
                raise UserError(f'{path}: its folder {folder} exists and differs, first in {missing}; remove the '
                                'folder to unpack the archive again, or give the folder')
            print(f'{path}: unpacked before to {folder}', flush=True)
        else:
            _unpack_next_to(path, archive, folder)
            print(f'{path}: unpacked to {folder}', flush=True)
    yield folder


def folder_of_archive(path: Path) -> Path:
    """Return the folder into which :func:`unpacked` writes an archive; other paths are returned as they are."""
    suffix = archive_suffix(path)
    return path if suffix is None or path.is_dir() else path.resolve().parent / path.name[:-len(suffix)]


def archive_suffix(path: Path) -> str | None:
    """Return the suffix of an archive as the path has it in lower case, or None for other paths."""
    return next((suffix for suffix in (*_SUFFIXES, *_UNREADABLE) if path.name.lower().endswith(suffix)), None)


@contextmanager
def _open(path: Path) -> Iterator[zipfile.ZipFile | tarfile.TarFile]:
    """Open an archive; faults of its content within the block become errors that name it."""
    try:
        with zipfile.ZipFile(path) if zipfile.is_zipfile(path) else tarfile.open(path) as archive:
            yield archive
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, NotImplementedError) as error:
        reason = str(error).partition('\n')[0].rstrip(':')
        raise UserError(f'{path} is not a complete archive ({reason}); download it again') from None


def _unpack_next_to(path: Path, archive: zipfile.ZipFile | tarfile.TarFile, folder: Path) -> None:
    try:
        partial = Path(tempfile.mkdtemp(prefix=f'.{folder.name}.', dir=folder.parent))
    except OSError as error:
        raise UserError(f'{path} cannot be unpacked to {folder} ({error.strerror}); unpack it elsewhere, and give the '
                        'folder') from None
    try:
        _unpack(path, archive, partial)
        partial.chmod(0o755)
        partial.rename(folder)
    except OSError as error:
        raise UserError(f'{path} cannot be unpacked to {folder} ({error.strerror or error})') from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _unpack(path: Path, archive: zipfile.ZipFile | tarfile.TarFile, folder: Path) -> None:
    """Write the files of an archive below a folder."""
    members = _members(path, archive)
    total, free = sum(each.size for each in members), shutil.disk_usage(folder).free - _SPARE_BYTES
    if total > free:
        raise UserError(f'{path} needs {total / 1e9:.1f} GB unpacked, {folder.parent} has {max(free, 0) / 1e9:.1f} GB')
    for each in track(members, len(members), f'files of {path.name}'):
        target = folder / each.path
        target.parent.mkdir(parents=True, exist_ok=True)
        with _read(archive, each) as source, target.open('xb') as to:
            shutil.copyfileobj(source, to, 1 << 20)


def _members(path: Path, archive: zipfile.ZipFile | tarfile.TarFile) -> list[_Member]:
    """Return the files of an archive, without those that operating systems add.

    Raises:
        UserError: A path leaves the folder, two are equal, there are too many, or a file is encrypted.
    """
    if isinstance(archive, zipfile.ZipFile):
        found = [_Member(PurePosixPath(_name(info).replace('\\', '/')), info.file_size, info)
                 for info in archive.infolist() if not info.is_dir()]
        if any(info.flag_bits & 1 for info in archive.infolist()):
            raise UserError(f'{path} has a password; unpack it, and give the folder')
    else:
        found = [_Member(PurePosixPath(info.name), info.size, info) for info in archive.getmembers() if info.isfile()]
    for each in found:
        if each.path.is_absolute() or '..' in each.path.parts or ':' in each.path.parts[0] or '\0' in str(each.path):
            raise UserError(f'{path} has a file outside of its folder, {each.path}; it is not unpacked')
    found = [each for each in found if not _is_of_a_system(each.path)]
    by_path = {each.path: each for each in found}  # the last one of equal names, as other programs do
    if not by_path or len(by_path) > _MOST_FILES:
        raise UserError(f'{path} has {len(by_path)} files; expected a data set')
    return [*by_path.values()]


def _is_of_a_system(path: PurePosixPath) -> bool:
    return bool({'__MACOSX', '.DS_Store'} & {*path.parts}) or path.name.lower() in SYSTEM_FILES


def _name(info: zipfile.ZipInfo) -> str:
    """Return the name of a file; macOS writes UTF-8 without the flag that states it."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        return info.filename.encode('cp437').decode('utf-8')
    except UnicodeError:
        return info.filename


def _read(archive: zipfile.ZipFile | tarfile.TarFile, member: _Member) -> IO[bytes]:
    if isinstance(archive, zipfile.ZipFile):
        assert isinstance(member.info, zipfile.ZipInfo)
        return archive.open(member.info)
    assert isinstance(member.info, tarfile.TarInfo)
    stream = archive.extractfile(member.info)
    assert stream is not None
    return stream


def _missing(path: Path, archive: zipfile.ZipFile | tarfile.TarFile, folder: Path) -> str:
    """Return the first file of an archive that a folder lacks or has with another size; empty without one."""
    return next((str(each.path) for each in _members(path, archive)
                 if not (folder / each.path).is_file() or (folder / each.path).stat().st_size != each.size), '')
