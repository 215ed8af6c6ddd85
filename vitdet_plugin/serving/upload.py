"""Read the image and the options of a request, in memory and within a size limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from vitdet_plugin.serving.faults import RequestFault

_SECONDS = 60  # for the upload
_LONGEST_NAME = 200
_FORM_BYTES = 100000  # of a form around its file
_REFUSED = ('application/json', 'text/', 'application/xml', 'video/', 'audio/')
_HOW = 'send an image file as multipart/form-data, or its bytes with Content-Type: image/jpeg'


@dataclass(frozen=True)
class Upload:
    """An uploaded image.

    Attributes:
        content: Content of the image file.
        name: Its name without folders.
        options: Names and values of options, from the query and the form.
    """

    content: bytes
    name: str
    options: dict[str, str]


async def read_upload(request: Any, limit: int) -> Upload:
    """Read a request.

    Args:
        request: A Starlette request with a form that has one file, or with the bytes of an image file.
        limit: Most bytes of the image file.

    Raises:
        RequestFault: No image, several images, too many bytes, or another content type.
    """
    kind = request.headers.get('content-type', '').partition(';')[0].strip().lower()
    if kind.startswith(_REFUSED):
        raise RequestFault(415, f'content type {kind} is not an image; {_HOW}')
    try:
        async with asyncio.timeout(_SECONDS):
            if kind == 'multipart/form-data':
                return await _read_form(request, limit)
            content = b''.join([chunk async for chunk in _limited(request, limit)])
    except TimeoutError as error:
        raise RequestFault(408, f'the upload took longer than {_SECONDS} seconds; upload a smaller image') from error
    if not content:
        raise RequestFault(400, f'the request has no image; {_HOW}')
    return Upload(content, 'image', dict(request.query_params))


async def _read_form(request: Any, limit: int) -> Upload:
    from starlette.formparsers import MultiPartException, MultiPartParser

    class InMemory(MultiPartParser):
        spool_max_size = limit + _FORM_BYTES  # larger than any file: nothing is written to disk

    try:
        stream = _limited(request, limit, _FORM_BYTES)
        form = await InMemory(request.headers, stream, max_files=2, max_fields=20).parse()
    except MultiPartException as error:
        raise RequestFault(400, f'the form cannot be read ({error.message}); {_HOW}') from error
    files = [value for _, value in form.multi_items() if not isinstance(value, str)]
    if len(files) != 1:
        raise RequestFault(400, f'the form has {len(files) or "no"} file{"s" * (len(files) > 1)}; send one image in '
                           'the field "file"')
    content = await files[0].read()
    await form.close()
    if len(content) > limit:
        raise _too_large(limit)
    if not content:
        raise RequestFault(400, 'the uploaded file is empty; upload an image')
    fields = {name: value for name, value in form.multi_items() if isinstance(value, str)}
    return Upload(content, _base_name(files[0].filename), {**request.query_params, **fields})


async def _limited(request: Any, limit: int, extra: int = 0) -> AsyncIterator[bytes]:
    """Yield the body of a request; a length that the header declares is checked before anything is read."""
    fault = _too_large(limit)
    limit += extra
    declared = request.headers.get('content-length', '')
    if declared.isdecimal() and int(declared) > limit:
        raise fault
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise fault
        yield chunk


def _too_large(limit: int) -> RequestFault:
    return RequestFault(413, f'the image file is larger than {limit / 1e6:g} MB; upload a smaller one, or start the '
                        'server with a larger --max-mb')


def _base_name(name: str | None) -> str:
    plain = ''.join(letter for letter in (name or '').replace('\\', '/') if letter.isprintable())
    return PurePosixPath(plain).name[-_LONGEST_NAME:] or 'image'
