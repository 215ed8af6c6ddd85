"""Verify the checksums of a torch archive while it is loaded, so that its data is read once."""

import io
import os
import struct
import zipfile
import zlib

ARCHIVE_ERRORS = (zipfile.BadZipFile, OSError, ValueError, RuntimeError, EOFError, NotImplementedError)
_CHUNK = 1 << 20
_LOCAL_HEADER = struct.Struct('<4s22x2H')  # of each record: signature, lengths of the name and of extra fields


class CheckedFile(io.BufferedReader):
    """A torch archive, opened for ``torch.load``; records are compared with their CRC-32 as they are read.

    Raises:
        zipfile.BadZipFile, OSError, ...: one of ``ARCHIVE_ERRORS`` if the archive's directory cannot be read.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        super().__init__(io.FileIO(path))
        self._wrong: str | None = None
        try:
            with zipfile.ZipFile(self) as archive:
                self._unread = {self._data_offset(record): record for record in archive.infolist()}
        except BaseException:
            self.close()
            raise
        self.seek(0)

    def readinto(self, buffer) -> int:
        """Read into ``buffer``; a whole record read at once, as torch does, is verified here."""
        start, count = self.tell(), super().readinto(buffer)
        record = self._unread.get(start)
        if record is not None and record.compress_type == zipfile.ZIP_STORED and \
                count == len(buffer) == record.file_size:
            del self._unread[start]
            if zlib.crc32(buffer) != record.CRC:
                self._wrong = self._wrong or record.filename
        return count

    def find_damage(self) -> str | None:
        """Verify the records that have not been read yet; return why the archive is damaged, or None."""
        try:
            with zipfile.ZipFile(self) as archive:
                for record in () if self._wrong else self._unread.values():
                    self._wrong = record.filename
                    with archive.open(record) as stream:
                        while stream.read(_CHUNK):
                            pass
                    self._wrong = None
        except ARCHIVE_ERRORS as error:
            if not str(error).startswith('Bad CRC-32'):
                return describe_archive_error(error)
        return f'the checksum of its record {self._wrong} is wrong' if self._wrong else None

    def _data_offset(self, record: zipfile.ZipInfo) -> int:
        self.seek(record.header_offset)
        header = self.read(_LOCAL_HEADER.size)
        if len(header) == _LOCAL_HEADER.size:
            signature, name_length, extra_length = _LOCAL_HEADER.unpack(header)
            if signature == b'PK\3\4' and self.read(name_length) == record.orig_filename.encode():
                return record.header_offset + _LOCAL_HEADER.size + name_length + extra_length
        raise zipfile.BadZipFile(f'the header of record {record.filename} is wrong')


def is_archive(path: str | os.PathLike) -> bool:
    """Like ``zipfile.is_zipfile``, but damaged archives for which that raises count as archives."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        return True


def describe_archive_error(error: Exception) -> str:
    """The reason to show for one of ``ARCHIVE_ERRORS``."""
    return f'its archive is damaged ({(str(error).splitlines() or [type(error).__name__])[0]})'
