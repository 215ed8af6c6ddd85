"""The web application: its addresses and the JSON of its errors."""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from typing import Any

from vitdet_plugin.api import Inferencer
from vitdet_plugin.errors import UserError
from vitdet_plugin.serving.describe import describe
from vitdet_plugin.serving.faults import RequestFault
from vitdet_plugin.serving.guard import Guard
from vitdet_plugin.serving.options import parse_options
from vitdet_plugin.serving.pages import read_pages
from vitdet_plugin.serving.service import Service
from vitdet_plugin.serving.settings import Settings
from vitdet_plugin.serving.upload import read_upload

TURNED = 'X-Orientation-Declared'  # for the page, which then asks for a preview


def create_app(inferencer: Inferencer, settings: Settings | None = None, name: str = 'model') -> Any:
    """Return an ASGI application that predicts with a model, for any ASGI server.

    ``GET /`` is a page. ``POST /predict`` receives an image and returns JSON. ``GET /info`` describes the model, and
    ``GET /health`` answers when the server is ready. Errors are JSON with one line in ``error``.

    Args:
        inferencer: The model.
        settings: Limits and options of prediction.
        name: Name of the model for people.
    """
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route
    settings = settings or Settings()
    service = Service(inferencer, settings)
    info, pages = describe(service, name), read_pages()

    async def page(request: Any) -> Response:
        content, kind = pages[request.url.path]
        return Response(content, media_type=kind)

    async def health(request: Any) -> Response:
        return JSONResponse(dict(status='ok'))

    async def get_info(request: Any) -> Response:
        return JSONResponse(info)

    async def predict(request: Any) -> Response:
        with service.admit():
            upload = await read_upload(request, settings.max_bytes)
            options = parse_options(upload.options, settings.score_thr, inferencer.is_classifier)
            content, may_differ = await service.run(service.answer, upload, options)
        headers = {TURNED: 'yes'} if may_differ else {}
        if isinstance(content, bytes):
            return Response(content, headers=headers, media_type='image/jpeg')
        return JSONResponse(content, headers=headers)

    async def preview(request: Any) -> Response:
        with service.admit():
            upload = await read_upload(request, settings.max_bytes)
            content = await service.run(service.preview, upload)
        return Response(content, media_type='image/jpeg')

    def safe(endpoint: Any) -> Any:
        async def respond(request: Any) -> Response:
            try:
                return await endpoint(request)
            except RequestFault as fault:
                return JSONResponse(dict(error=str(fault)), fault.status)
            except UserError as error:  # the model cannot process this image
                return JSONResponse(dict(error=str(error)), 400)
            except asyncio.CancelledError:  # by uvicorn, some seconds after the signal
                return JSONResponse(dict(error='the server was stopped before the result was ready'), 503)
            except ClientDisconnect:
                return Response(status_code=400)
            except Exception as error:
                return JSONResponse(dict(error=_report(error)), 500)
        return respond

    async def http_error(request: Any, error: Any) -> Response:
        return JSONResponse(dict(error=_explain(error.status_code, request)), error.status_code, error.headers)

    routes = [*(Route(url, page) for url in pages), Route('/health', health), Route('/info', get_info),
              Route('/predict', safe(predict), methods=['POST']), Route('/preview', safe(preview), methods=['POST'])]
    return Guard(Starlette(routes=routes, exception_handlers={HTTPException: http_error}), settings.hosts)


def _explain(status: int, request: Any) -> str:
    path = request.url.path
    if status == 405:
        return f'{request.method} is not possible for {path}; use {"GET" if request.method == "POST" else "POST"}'
    if status == 404:
        return f'{path} does not exist; use POST /predict, GET /info, GET /health, or GET / for the page'
    return f'the request cannot be answered (status {status})'


def _report(error: Exception) -> str:
    """Print an error of the program on standard error, and return one line for the client."""
    if os.environ.get('VITDET_DEBUG') == '1':
        traceback.print_exception(error)
    reason = f'{type(error).__name__}: {" ".join(str(error).split())[:200]}'
    print(f'error: a prediction failed ({reason}); VITDET_DEBUG=1 shows the traceback', file=sys.stderr, flush=True)
    return f'the prediction failed ({type(error).__name__}); the server printed the reason'
