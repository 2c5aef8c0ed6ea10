"""The proxy subresource of pods: a request handed to the pod's own server, and its answer streamed back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from lab.kubernetes.api.context import CONTEXT
from lab.kubernetes.api.errors import BadRequest, ServiceUnavailable
from lab.kubernetes.api.kinds import POD
from lab.kubernetes.api.objects import Object
from lab.kubernetes.api.routing import Target

DEADLINE_SECONDS: Final = 10.0
"""How long a pod may take to be reached, to begin its answer, and to go on with it."""
DEFAULT_PORT: Final = 80
SCHEMES: Final = ("http", "https")
UNTOLD_TYPE: Final = "text/plain; charset=utf-8"
"""Of an answer that does not say; a real server looks at its beginning, and clients refuse what they cannot read."""
_PIECE_BYTES: Final = 64 * 1024
_BEFORE_REST: Final = 8
"""Slashes before what the pod is asked for."""
_OF_ONE_CONNECTION: Final = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer"),
        *("transfer-encoding", "upgrade", "host", "authorization", "expect"),
    }
)


async def forward(request: web.Request, target: Target) -> web.StreamResponse:
    """The pod's answer; ServiceUnavailable when it cannot be reached or does not begin one in time."""
    url = _url(request, target)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=DEADLINE_SECONDS, sock_read=DEADLINE_SECONDS)
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as session:
        try:
            answer = await session.request(
                request.method,
                url,
                # An API server does not verify a pod's certificate either.
                ssl=False,
                headers=_passed(request.headers),
                data=request.content if request.can_read_body else None,
                allow_redirects=False,
                skip_auto_headers=("User-Agent", "Accept-Encoding", "Content-Type"),
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = str(error) or f"no answer within {DEADLINE_SECONDS:g} s"
            raise ServiceUnavailable(f"error trying to reach service: {reason}") from None
        async with answer:
            return await _streamed(request, answer)


async def _streamed(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=_passed(answer.headers))
    if "Content-Type" not in answer.headers:
        response.headers["Content-Type"] = UNTOLD_TYPE
    await response.prepare(request)
    try:
        async for piece in answer.content.iter_chunked(_PIECE_BYTES):
            await response.write(piece)
        await response.write_eof()
    except (aiohttp.ClientError, TimeoutError, OSError):
        if request.transport is not None:
            request.transport.abort()  # an answer cut short must not look like a whole one
    return response


def _url(request: web.Request, target: Target) -> URL:
    """Where the pod's server is asked: its address, the port named or its first one, the rest of the path."""
    scheme, name, port = _named(str(target.name))
    pod = request.app[CONTEXT].store.current(POD, target.namespace, name)
    address = (pod.get("status") or {}).get("podIP")
    if not address:
        raise BadRequest(f"address not allowed: pod {name} has none yet")
    # /api/v1/namespaces/<namespace>/pods/<name>/proxy/<rest>; clients write the slashes of the rest as %2F too
    rest = request.path.split("/", _BEFORE_REST)[_BEFORE_REST:]
    return URL.build(
        scheme=scheme,
        host=address,
        port=port or _first_port(pod),
        path=f"/{quote(rest[0] if rest else '')}",
        query_string=request.raw_path.partition("?")[2],
        encoded=True,
    )


def _named(text: str) -> tuple[str, str, int | None]:
    """Scheme, pod and port of `[scheme:]name[:port]`; BadRequest for another scheme, or a port that is no number."""
    parts = text.split(":")
    scheme, name, port = ["http", *parts, ""][:3] if len(parts) < 3 else parts[:3]
    known = scheme in SCHEMES and len(parts) <= 3
    if not name or not known or (port and not (port.isdecimal() and 1 <= int(port) <= 65535)):
        rule = "write name, name:port, http:name:port or https:name:port, with the number of a port"
        raise BadRequest(f"invalid pod request {text!r}; {rule}")
    return scheme, name, int(port) if port else None


def _first_port(pod: Object) -> int:
    declared = (port for container in pod["spec"]["containers"] for port in container.get("ports") or ())
    first = next(declared, None)
    return int(first["containerPort"]) if first else DEFAULT_PORT


def _passed(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """The headers that are not about one connection alone."""
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _OF_ONE_CONNECTION)
