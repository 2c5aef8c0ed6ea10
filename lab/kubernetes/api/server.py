"""The API server over HTTP: paths, verbs and Status objects in front of a Store."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from lab.kubernetes.api import discovery, pod_proxy
from lab.kubernetes.api.context import CONTEXT, Context, PodLogs
from lab.kubernetes.api.errors import ApiError, BadRequest, NotAcceptable
from lab.kubernetes.api.parameters import BODY_LIMIT
from lab.kubernetes.api.reading import read
from lab.kubernetes.api.routing import resolve, unknown
from lab.kubernetes.api.store import Store
from lab.kubernetes.api.unsupported import UnsupportedLog
from lab.kubernetes.api.writing import write

_log = logging.getLogger(__name__)


def _no_logs(namespace: str, name: str, container: str | None, previous: bool, tail: int | None) -> bytes:  # noqa: ARG001  # the shape of PodLogs
    raise BadRequest(f"no kubelet is attached to this API server, so pod {namespace}/{name} has no log")


def application(
    store: Store, *, pod_logs: PodLogs = _no_logs, unsupported: UnsupportedLog | None = None
) -> web.Application:
    """The HTTP face of `store`; `pod_logs` reads what containers wrote."""
    app = web.Application(middlewares=[_refusals], client_max_size=BODY_LIMIT)
    app[CONTEXT] = Context(store, pod_logs, unsupported or UnsupportedLog())
    app.router.add_route("*", "/{path:.*}", _serve)
    app.on_shutdown.append(_end_watches)
    return app


async def listen(app: web.Application, host: str, port: int) -> web.AppRunner:
    """Serve on one loopback address; `cleanup()` of the returned runner ends it within a second."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner


async def _end_watches(app: web.Application) -> None:
    for changes in list(app[CONTEXT].watches):
        changes.close()


@web.middleware
async def _refusals(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refusals become Status objects; those for want of a feature are recorded."""
    try:
        accepted = request.headers.get("Accept", "*/*")
        if not any(kind in accepted for kind in ("json", "*/*", "application/*", "text/", "yaml")):
            raise NotAcceptable(f"only application/json is served, the client accepts {accepted}", lacking=True)
        return await handler(request)
    except ApiError as error:
        if error.lacking:
            agent = request.headers.get("User-Agent", "")
            request.app[CONTEXT].unsupported.record(request.method, request.path, error.message, agent)
        headers = {"Retry-After": "1"} if error.code == 429 else None
        return web.json_response(error.status(), status=error.code, headers=headers)
    except RecursionError:
        refused = BadRequest("the object is nested too deeply; 500 levels are more than any kind has")
        return web.json_response(refused.status(), status=refused.code)
    except web.HTTPException:
        raise
    except Exception as error:  # noqa: BLE001  # the boundary: a defect becomes a 500 that names itself, and a line in the log
        _log.exception("%s %s failed", request.method, request.path)
        failed = ApiError(f"Internal error occurred: {type(error).__name__}: {error}")
        return web.json_response(failed.status(), status=failed.code)


async def _serve(request: web.Request) -> web.StreamResponse:
    target = resolve(request.app[CONTEXT].store.kinds, request.path)
    if target is None:
        return _about(request)
    if target.passes_on:
        return await pod_proxy.forward(request, target)
    if request.method in ("GET", "HEAD"):
        return await read(request, target)
    return await write(request, target)


def _about(request: web.Request) -> web.Response:
    """Everything that is not a resource."""
    kinds = request.app[CONTEXT].store.kinds
    parts = [part for part in request.path.split("/") if part]
    answer: Any = None
    if request.method not in ("GET", "HEAD"):
        raise unknown(request.path)
    match parts:
        case ["version"]:
            answer = discovery.version()
        case ["healthz" | "livez" | "readyz", *_]:
            return web.Response(text="ok")
        case ["api"]:
            answer = discovery.core_versions(request.host)
        case ["apis"]:
            answer = discovery.groups(kinds)
        case ["api", version]:
            answer = discovery.resources(kinds, "", version)
        case ["apis", group]:
            answer = discovery.group(kinds, group)
        case ["apis", group, version]:
            answer = discovery.resources(kinds, group, version)
        case ["openapi", "v2"]:
            answer = discovery.openapi_v2()
        case ["openapi", "v3"]:
            answer = {"paths": {}}
        case ["tandem", "unsupported"]:
            answer = request.app[CONTEXT].unsupported.to_json()
        case []:
            answer = {"paths": ["/api", "/apis", "/healthz", "/livez", "/readyz", "/tandem/unsupported", "/version"]}
    if answer is None:
        raise unknown(request.path)
    return web.json_response(answer)
