"""Which API calls were made: a bounded log, by which a drill proves that nothing was written."""

from __future__ import annotations

import functools
import re
import threading
import time
import uuid
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any, Final
from urllib.parse import parse_qs

import botocore.exceptions
import botocore.session

KEPT_READS: Final = 2_000
KEPT_WRITES: Final = 20_000
READING: Final = ("Get", "List", "Describe", "Head", "Test", "Lookup", "Search", "Query", "Simulate", "AssumeRole")
"""Beginnings of operation names that change nothing."""

_CREDENTIAL: Final = re.compile(r"Credential=[^/,\s]+/[^/]*/(?P<region>[^/]*)/(?P<service>[^/]*)/aws4_request")


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request to the API and how it was answered."""

    sequence: int
    time: float
    service: str
    action: str
    method: str
    path: str
    status: int
    write: bool
    """Whether the operation changes something when it succeeds."""


class RequestLog:
    """The last calls, reads and writes bounded apart so that polling never pushes a write out."""

    def __init__(self) -> None:
        self.epoch = uuid.uuid4().hex
        """Changes with every start, so that a poller notices a server that lost its state."""
        self._lock = threading.Lock()
        self._sequence = 0
        self._done_writes = 0
        self._reads: deque[Call] = deque(maxlen=KEPT_READS)
        self._writes: deque[Call] = deque(maxlen=KEPT_WRITES)

    def record(self, *, service: str, action: str, method: str, path: str, status: int) -> None:
        """Append one call."""
        write = not action.startswith(READING) if action else method not in ("GET", "HEAD", "OPTIONS")
        with self._lock:
            self._sequence += 1
            self._done_writes += write and status < 400
            (self._writes if write else self._reads).append(
                Call(
                    sequence=self._sequence,
                    time=time.time(),
                    service=service,
                    action=action,
                    method=method,
                    path=path,
                    status=status,
                    write=write,
                )
            )

    def version(self) -> str:
        """Differs whenever anything may have been changed since."""
        with self._lock:
            return f"{self.epoch}-{self._done_writes}"

    def calls(self, *, since: int = 0, writes_only: bool = False) -> list[dict[str, Any]]:
        """Calls after the sequence number `since`, oldest first."""
        with self._lock:
            kept = [*self._writes, *([] if writes_only else self._reads)]
        return [asdict(call) for call in sorted(kept, key=lambda call: call.sequence) if call.sequence > since]


def operation(environ: dict[str, Any], body: bytes) -> tuple[str, str]:
    """Service and action of a request, each empty where it does not say."""
    scope = _CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
    service = scope["service"] if scope else ""
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if target:
        return service, target.rpartition(".")[2]
    if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        form = parse_qs(body.decode("utf-8", "replace"))
        if "Action" in form:
            return service, form["Action"][0]
    method, path = environ.get("REQUEST_METHOD", ""), environ.get("PATH_INFO", "")
    for verb, pattern, action in _rest_operations(service):
        if verb == method and pattern.fullmatch(path):
            return service, action
    return service, ""


@functools.cache
def _rest_operations(service: str) -> tuple[tuple[str, re.Pattern[str], str], ...]:
    """Method, path and name of each operation of a REST service, from botocore's own model of it."""
    if not service:
        return ()
    try:
        model = botocore.session.Session().get_service_model(service)
    except (botocore.exceptions.UnknownServiceError, botocore.exceptions.DataNotFoundError):
        return ()
    rest = []
    for name in model.operation_names:
        http = model.operation_model(name).http
        pieces = re.split(r"\{[^}]*\}", http["requestUri"].partition("?")[0].rstrip("/"))
        rest.append((http["method"], re.compile("[^/]+".join(map(re.escape, pieces)) + "/?"), name))
    return tuple(sorted(rest, key=lambda entry: (entry[1].pattern.count("[^/]+"), -len(entry[1].pattern))))
