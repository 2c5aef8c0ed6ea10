"""Answers that go on: watches and followed logs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Final

from aiohttp import web

from lab.kubernetes.api.context import CONTEXT
from lab.kubernetes.api.errors import ApiError, NotFound
from lab.kubernetes.api.history import Watch
from lab.kubernetes.api.kinds import POD
from lab.kubernetes.api.store import Store

WRITE_SECONDS: Final = 20.0
"""How long a client may leave a line unread before it is cut off."""
LOG_POLL_SECONDS: Final = 0.3


async def _write(request: web.Request, response: web.StreamResponse, data: bytes) -> bool:
    """Send a piece; False when the client is gone or too slow, and then the connection is closed."""
    try:
        async with asyncio.timeout(WRITE_SECONDS):
            await response.write(data)
    except (TimeoutError, ConnectionError):
        if request.transport is not None:
            request.transport.abort()
        return False
    return True


async def watch(request: web.Request, start: Callable[[], Watch], *, bookmarks: bool) -> web.StreamResponse:
    """One JSON line per event; history that is gone is told as an ERROR event, as a real server does.

    The watch that `start` makes has bookmarks in any case: they are the moments to look whether the client is there.
    """
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    changes: Watch | None = None
    try:
        changes = start()
        request.app[CONTEXT].watches.add(changes)
        async for event in changes:
            if request.transport is None or request.transport.is_closing():
                break
            if event.type == "BOOKMARK" and not bookmarks and not event.object["metadata"].get("annotations"):
                continue
            line = json.dumps(event.to_json(), separators=(",", ":")).encode() + b"\n"
            if not await _write(request, response, line):
                break
    except ApiError as error:
        line = json.dumps({"type": "ERROR", "object": error.status()}).encode() + b"\n"
        await _write(request, response, line)
    finally:
        if changes is not None:
            changes.close()
            request.app[CONTEXT].watches.discard(changes)
    return response


async def follow(
    request: web.Request, store: Store, namespace: str, name: str, read: Callable[[], bytes], tail: int | None
) -> web.StreamResponse:
    """The log so far, or its last `tail` lines, and what is added to it, until the pod is done or the client leaves."""
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    response.enable_chunked_encoding()
    sent = read()
    await response.prepare(request)
    first = sent if tail is None else b"".join(sent.splitlines(keepends=True)[-tail:] if tail else [])
    if first and not await _write(request, response, first):
        return response
    while True:
        done = _finished(store, namespace, name)
        try:
            now = read()
        except ApiError:
            return response
        # a log that was started anew is sent from its beginning
        fresh = now.removeprefix(sent)
        if fresh and not await _write(request, response, fresh):
            return response
        sent = now
        if done or request.transport is None or request.transport.is_closing():
            return response
        await asyncio.sleep(LOG_POLL_SECONDS)


def _finished(store: Store, namespace: str, name: str) -> bool:
    try:
        pod = store.current(POD, namespace, name)
    except NotFound:
        return True
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
