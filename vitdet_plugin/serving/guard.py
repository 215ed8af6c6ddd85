"""Refuse requests that pages of other sites make in the browser of a user, and add headers for the browser.

A page of another site can send requests to a server on this machine. Without CORS headers it cannot read the answers;
its POST requests are refused, too. With a name of its own that leads to this machine (DNS rebinding) it could read
them, so the names by which the server may be addressed are limited.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

_SAFE_METHODS = ('GET', 'HEAD')
_HEADERS = {
    'Content-Security-Policy': "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
                               "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    'Cross-Origin-Resource-Policy': 'same-origin', 'Referrer-Policy': 'no-referrer', 'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff'}


class Guard:
    """An ASGI application that passes allowed requests to another one.

    Args:
        app: The application.
        hosts: Names by which the server may be addressed, next to ``localhost`` and IP addresses.
    """

    def __init__(self, app: Any, hosts: Sequence[str] = ()) -> None:
        self._app, self._hosts = app, {'localhost', *(host.lower().rstrip('.') for host in hosts)}

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        from starlette.responses import JSONResponse
        extra = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]

        async def send_with_headers(message: dict[str, Any]) -> None:
            if message['type'] == 'http.response.start':
                message = {**message, 'headers': [*message.get('headers', ()), *extra]}
            await send(message)

        headers = {name.decode('latin-1').lower(): value.decode('latin-1') for name, value in scope['headers']}
        fault = self._fault(scope['method'], headers)
        app = JSONResponse(dict(error=fault), 403) if fault else self._app
        await app(scope, receive, send_with_headers)

    def _fault(self, method: str, headers: dict[str, str]) -> str:
        """Return why a request is refused, or an empty text."""
        host, origin = headers.get('host', ''), headers.get('origin')
        if host and not self._is_allowed(host):
            return f'the name {_host_name(host)} is not allowed; start the server with --allow-host {_host_name(host)}'
        is_foreign = origin is not None and origin.partition('://')[2].lower() != host.lower()
        is_cross_site = headers.get('sec-fetch-site') in ('cross-site', 'same-site') and method not in _SAFE_METHODS
        if is_foreign or is_cross_site:
            return 'pages of other sites may not use this server; open its own page, or send requests without a browser'
        return ''

    def _is_allowed(self, host: str) -> bool:
        name = _host_name(host)
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._hosts or name.endswith('.localhost')
        return True  # a page of another site cannot have this address


def _host_name(host: str) -> str:
    """Return the name or address of a ``Host`` header without its port."""
    host = host.lower()
    if host.startswith('['):
        return host[1:].partition(']')[0]
    return host.partition(':')[0].rstrip('.')
