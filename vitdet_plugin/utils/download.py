"""Download a file over HTTP: resumable, checked, by one process at a time, and never half of it under its name."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import os
import re
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.file_lock import locked
from vitdet_plugin.utils.text import format_bytes
from vitdet_plugin.utils.track import Progress

_CHUNK = 1 << 20
_MAX_WAIT = 30.
_TEMPORARY = (408, 425, 429, 500, 502, 503, 504)
_BROKEN_TLS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)  # the connection ended
_UNREACHABLE = (errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)


class DownloadError(UserError):
    """Why a file could not be downloaded, without its name; the caller adds it and what to do."""


def cache_folder() -> Path:
    """Return ``$VITDET_CACHE``, by default ``vitdet_plugin/weights`` in the user's cache folder."""
    default = Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache') / 'vitdet_plugin' / 'weights'
    return Path(os.environ.get('VITDET_CACHE') or default).expanduser()


def download_file(url: str, target: Path, *, digest: str | None = None, size: int | None = None,
                  check: Callable[[Path], str | None] | None = None, timeout: float = 30., retries: int = 5,
                  wait: float = 1.) -> Path:
    """Download ``url`` to ``target`` unless it exists; other processes that ask for it wait.

    The bytes are collected in ``<target>.part``, which a later call continues if the server allows it, and which is
    renamed when the file is complete and correct.

    Args:
        url: ``http://`` or ``https://``; redirects are followed.
        target: File to write; its folder is created.
        digest: Expected checksum, see :func:`matches_digest`.
        size: Expected number of bytes.
        check: Returns what is wrong with the content of a complete file, or None.
        timeout: Seconds without a byte after which a connection counts as broken.
        retries: Number of attempts in a row without progress after which the download fails.
        wait: Seconds before the second attempt, doubled for each further one.

    Raises:
        DownloadError: The server cannot be reached, does not have the file, or sends another one.
        OSError: The file cannot be written.
    """
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.with_name(f'{target.name}.lock'), f'another process downloads {target.name}'):
        if target.is_file():
            return target
        transfer = _Transfer(url, target, size, timeout, keep=digest is not None)
        was_resumed = transfer.done > 0
        transfer.run(retries, wait)
        if digest and was_resumed and not matches_digest(transfer.part, digest):
            transfer.discard()  # the first part may be of an older file
            transfer.run(retries, wait)
        if wrong := _describe_wrong(transfer.part, digest, check):
            transfer.discard()
            raise DownloadError(wrong)
        os.replace(transfer.part, target)
        transfer.discard()
    return target


def hash_file(path: Path, algorithm: str = 'sha256') -> str:
    """Return the checksum of a file in hexadecimal digits."""
    found = hashlib.new(algorithm)
    with open(path, 'rb') as file, contextlib.closing(
            Progress(f'checksum of {path.name}', path.stat().st_size, in_bytes=True)) as progress:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
            progress.update(file.tell())
    return found.hexdigest()


def matches_digest(path: Path, digest: str) -> bool:
    """Whether a file has a checksum, such as ``sha256:b938bf1b…`` or ``md5:8cad7c``: all or the first digits."""
    algorithm, digits = digest.split(':')
    return hash_file(path, algorithm).startswith(digits.lower())


class _Transfer:
    """The state of one download: its part file, and the version of the file on the server that it belongs to."""

    def __init__(self, url: str, target: Path, size: int | None, timeout: float, keep: bool) -> None:
        self.url, self.size, self.timeout, self.name = url, size, timeout, target.name
        self.part = target.with_name(f'{target.name}.part')
        self._version_file = target.with_name(f'{target.name}.part.version')
        if not keep and not self._version_file.is_file():
            self.part.unlink(missing_ok=True)  # it could be of another version of the file

    @property
    def done(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self._version_file.unlink(missing_ok=True)

    def run(self, retries: int, wait: float) -> None:
        """Receive all bytes, over several connections if they break.

        Raises:
            DownloadError: See :func:`download_file`.
        """
        self._began: float | None = None
        self._has_refused_range = False
        with contextlib.closing(Progress(self.name, in_bytes=True)) as self._progress:
            self._run(retries, wait)
        if self._began is not None:
            self._progress.say(f'downloaded {self.name}: {format_bytes(self.done)} in '
                               f'{time.monotonic() - self._began:.0f} s')

    def _run(self, retries: int, wait: float) -> None:
        failures, most = 0, self.done
        while True:
            reason = self._try()
            if not reason:
                return
            failures = 1 if self.done > most else failures + 1
            most = max(most, self.done)  # what is discarded and received again is not progress
            if failures > retries:
                kept = f'; {format_bytes(self.done)} are kept and the next attempt continues there' if self.done else ''
                raise DownloadError(f'{reason}, {failures} times in a row{kept}')
            self._progress.say(f'{self.name}: {reason}; trying again')
            time.sleep(min(wait * 2 ** (failures - 1), _MAX_WAIT))

    def _try(self) -> str:
        """Return an empty string if the part is complete, else the reason to try again."""
        try:
            return self._receive()
        except urllib.error.HTTPError as error:
            return self._explain_status(error)
        except urllib.error.URLError as error:
            cause = error.reason
            if isinstance(cause, str):  # no host, or an unknown scheme of the URL or of the proxy
                raise DownloadError(cause) from error
            if isinstance(cause, ssl.SSLError) and not isinstance(cause, _BROKEN_TLS):
                raise DownloadError(f'no secure connection: {cause.reason or cause}') from error
            if isinstance(cause, socket.gaierror) or isinstance(cause, OSError) and cause.errno in _UNREACHABLE:
                raise DownloadError(f'{urllib.parse.urlsplit(self.url).netloc} cannot be reached: {_text(cause)}'
                                    ) from error
            return _text(cause)
        except http.client.InvalidURL as error:
            raise DownloadError(f'not a valid URL: {error}') from error
        except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
            return _text(error) if not isinstance(error, TimeoutError) else f'no data for {self.timeout:g} s'
        except (ValueError, OverflowError) as error:  # such as ports above 65535
            raise DownloadError(f'not a valid URL: {error}') from error

    def _explain_status(self, error: urllib.error.HTTPError) -> str:
        if error.code == 416 and self.done:  # nothing after the end of the part
            total = re.search(r'/(\d+)$', error.headers.get('Content-Range') or '')
            if total and int(total[1]) == self.done:
                return ''
            self.discard()
            return 'the server has another version of the file'
        if error.code in _TEMPORARY:
            return f'the server answered {error.code} {error.reason}'
        self.discard()
        raise DownloadError(f'the server answered {error.code} {error.reason}') from error

    def _receive(self) -> str:
        offset = self.done
        headers = {'User-Agent': 'vitdet_plugin', 'Accept-Encoding': 'identity'}
        if offset:
            headers['Range'] = f'bytes={offset}-'
            if self._version_file.is_file():
                headers['If-Range'] = self._version_file.read_text()
        with urllib.request.urlopen(urllib.request.Request(self.url, headers=headers), timeout=self.timeout) as answer:
            if answer.status not in (200, 203, 206):
                raise DownloadError(f'the server answered {answer.status} {answer.reason}, without the file')
            if answer.headers.get_content_type() == 'text/html':
                self.discard()
                raise DownloadError('the server sent a web page instead of the file')
            start = _start_of(answer)
            if start not in (0, offset):
                self.discard()
                reason = 'the server sent another part of the file than it was asked for'
                if not offset or self._has_refused_range:
                    raise DownloadError(reason)
                self._has_refused_range = True
                return reason
            length = answer.headers.get('Content-Length')
            if length and not length.isdecimal():
                raise DownloadError(f'the server states a size that is not a number, {length!r}')
            total = start + int(length) if length else None
            if self.size and total and total != self.size:
                self.discard()
                raise DownloadError(f'the server has a file of {total} bytes, expected {self.size}')
            self._check_space((total or self.size or 0) - start)
            if not start:
                self._write_version(answer.headers)
            self._announce(start, total or self.size)
            with open(self.part, 'ab' if start else 'wb') as file:
                while chunk := answer.read1(_CHUNK):
                    file.write(chunk)
                    self._progress.update(file.tell())
        expected = total or self.size
        if expected and self.done > expected:
            self.discard()
            raise DownloadError(f'the server sent more than {expected} bytes')
        if expected and self.done < expected:
            return f'the connection ended after {self.done} of {expected} bytes'
        return ''

    def _announce(self, done: int, total: int | None) -> None:
        self._progress.total = total
        if self._began is None:
            self._began = time.monotonic()
            size = f' ({format_bytes(total)})' if total else ''
            self._progress.say(f'downloading {self.name}{size}' + (f', continuing at {format_bytes(done)}' if done else
                                                                   ''))

    def _write_version(self, headers: http.client.HTTPMessage) -> None:
        etag = headers.get('ETag') or ''
        version = etag if etag and not etag.startswith('W/') else headers.get('Last-Modified')
        if version:
            self._version_file.write_text(version)
        else:
            self._version_file.unlink(missing_ok=True)

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(self.part.parent).free
        if needed > free:
            raise DownloadError(f'{self.part.parent} has {format_bytes(free)} of free space, but '
                                f'{format_bytes(needed)} are needed')


def _start_of(answer: http.client.HTTPResponse) -> int:
    """Return the position of the first byte that a server sends; -1 if it does not say."""
    if answer.status != 206:
        return 0
    found = re.match(r'bytes (\d+)-', answer.headers.get('Content-Range') or '')
    return int(found[1]) if found else -1


def _describe_wrong(path: Path, digest: str | None, check: Callable[[Path], str | None] | None) -> str:
    if check and (wrong := check(path)):
        return f'what the server sent {wrong}'
    if digest and not matches_digest(path, digest):
        algorithm, digits = digest.split(':')
        return f'its {algorithm} is {hash_file(path, algorithm)[:len(digits)]}, expected {digits}'
    return ''


def _text(error: object) -> str:
    return (getattr(error, 'strerror', None) or str(error) or type(error).__name__).strip()
