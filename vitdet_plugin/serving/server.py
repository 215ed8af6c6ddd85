"""Listen on a port and serve the application until a signal stops it."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from typing import Any

from vitdet_plugin.errors import UserError

_WAITING = 64  # connections that wait to be accepted
_SECONDS_TO_STOP = 10  # for requests that are being answered when the server is stopped


def check_packages() -> None:
    """Check that the packages of the extra ``web`` are installed.

    Raises:
        UserError: One is missing.
    """
    try:
        import python_multipart  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(f'vitdet serve requires the package {error.name}. Run pip install "vitdet-plugin[web]".'
                        ) from error


def open_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens; connections wait until the model is loaded.

    Args:
        host: Name or address of an interface of this machine.
        port: Port, or 0 for any free one.

    Raises:
        UserError: The host is not one of this machine, or the port is in use, reserved or out of range.
    """
    if not 0 <= port <= 65535:
        raise UserError(f'--port {port}: give a number from 0 (any free port) to 65535')
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        raise UserError(f'--host {host}: not a name or address of this machine; give 127.0.0.1, or 0.0.0.0 for all '
                        'interfaces') from error
    opened = socket.socket(family, kind, protocol)
    try:
        if os.name == 'posix':  # a port that was just closed can be used again
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(_WAITING)
    except OSError as error:
        opened.close()
        raise UserError(_explain(error, host, port)) from error
    return opened


def is_local(host: str) -> bool:
    """Whether only programs on this machine can connect to an interface."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == 'localhost'


def address_of(opened: socket.socket) -> str:
    """Return the URL of a socket for a browser on this machine."""
    host, port = opened.getsockname()[:2]
    if ipaddress.ip_address(host.partition('%')[0]).is_unspecified:
        host = 'localhost'
    return f'http://[{host}]:{port}' if ':' in host else f'http://{host}:{port}'


def make_server(app: Any) -> Any:
    """Return a uvicorn server of an ASGI application.

    Its method ``run(sockets=[opened])`` serves until a signal, which ends it after the answers to requests that have
    arrived.
    """
    import uvicorn
    config = uvicorn.Config(app, http='h11', ws='none', lifespan='off', log_config=None, log_level='critical',
                            access_log=False, server_header=False, timeout_graceful_shutdown=_SECONDS_TO_STOP)
    return uvicorn.Server(config)


def _explain(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f'--port {port} is in use by another program; give another one, or 0 for any free port'
    if error.errno == errno.EACCES:
        return f'--port {port} is reserved for the administrator; give one from 1024, such as 8000'
    return f'--host {host}: cannot listen ({error.strerror or error}); give an address of this machine'
