"""Images on web servers."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np

from vitdet_plugin.engine.image_arrays import decode_image
from vitdet_plugin.errors import UserError

_TIMEOUT = 30.0  # seconds without a byte
_LARGEST = 256 << 20  # bytes


def is_web_address(name: str) -> bool:
    """Whether a name is an ``http://`` or ``https://`` URL."""
    return name.lower().startswith(('http://', 'https://'))


def path_of_url(url: str) -> Path:
    """Return the path of a URL.

    Raises:
        UserError: It is not a valid URL.
    """
    try:
        return Path(urllib.parse.urlsplit(url).path)
    except ValueError as error:
        raise UserError(f'{url} is not a valid URL ({error}); correct it') from error


def download_image(url: str, color_type: str) -> np.ndarray:
    """Download an image and decode it as :func:`vitdet_plugin.engine.image_arrays.decode_image` does.

    Raises:
        UserError: The server cannot be reached, or does not send an image of at most 256 MiB.
    """
    try:
        request = urllib.request.Request(_quoted(url), headers={'User-Agent': 'vitdet-plugin'})
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            content = response.read(_LARGEST + 1)
    except urllib.error.HTTPError as error:
        raise UserError(f'{url} cannot be downloaded (status {error.code} {error.reason}); check the URL') from error
    except (OSError, ValueError, OverflowError, http.client.HTTPException) as error:
        reason = getattr(error, 'reason', None) or error
        raise UserError(f'{url} cannot be downloaded ({reason}); check the URL and the connection') from error
    if len(content) > _LARGEST:
        raise UserError(f'{url} has more than {_LARGEST >> 20} MiB; download the image and give its path')
    try:
        return decode_image(content, color_type)
    except UserError as error:
        raise UserError(f'{url} cannot be read as an image ({len(content)} bytes); check the URL') from error


def _quoted(url: str) -> str:
    """Escape blanks and letters that a request cannot contain; what is escaped already stays as it is."""
    parts = urllib.parse.urlsplit(url)
    safe = "/%:@!$&'()*+,;=~-._"
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, urllib.parse.quote(parts.path, safe),
                                    urllib.parse.quote(parts.query, safe + '?'), ''))
