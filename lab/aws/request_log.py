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
DATA_PLANE: Final = ("PutMetricData", "PutLogEvents", "Publish")
"""What runs all the time, in a control plane's trouble too."""
FORM: Final = "application/x-www-form-urlencoded"

_NAMED_PATH: Final = re.compile(r"/service/[^/]+/operation/(?P<action>\w+)/?")
"""Of services that speak CBOR (https://smithy.io/2.0/additional-specs/protocols/smithy-rpc-v2.html)."""
_CREDENTIAL: Final = re.compile(r"Credential=[^/,\s]+/[^/]*/(?P<region>[^/]*)/(?P<service>[^/]*)/aws4_request")


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What one request asks for; service and action are empty where it does not say."""

    service: str
    action: str
    method: str
    path: str
    dry_run: bool = False
    """Only asks whether it would be allowed, as EC2 offers it: whatever it names, it changes nothing."""

    @property
    def changes(self) -> bool:
        """Whether what it names changes something declared when it succeeds; what is measured is not declared."""
        if self.action:
            return not self.action.startswith(READING) and self.action not in DATA_PLANE
        return self.method not in ("GET", "HEAD", "OPTIONS")


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
    """Whether it changes something when it succeeds; a refused one was an attempt."""


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

    def record(self, asked: Operation, status: int) -> None:
        """Append one call."""
        write = asked.changes and not asked.dry_run
        with self._lock:
            self._sequence += 1
            self._done_writes += write and status < 400
            (self._writes if write else self._reads).append(
                Call(
                    sequence=self._sequence,
                    time=time.time(),
                    service=asked.service,
                    action=asked.action,
                    method=asked.method,
                    path=asked.path,
                    status=status,
                    write=write,
                )
            )

    def version(self) -> str:
        """Differs whenever anything may have been changed since."""
        with self._lock:
            return f"{self.epoch}-{self._done_writes}"

    def after(self, sequence: int = 0, *, writes_only: bool = False) -> dict[str, Any]:
        """Calls after a sequence number, oldest first, with the number of the last call of any kind.

        Ask for what comes after that number to go on without a gap; another `epoch` means another log.
        """
        with self._lock:
            kept = [*self._writes, *([] if writes_only else self._reads)]
            latest = self._sequence
        calls = sorted((call for call in kept if call.sequence > sequence), key=lambda call: call.sequence)
        return {"requests": [asdict(call) for call in calls], "latest": latest, "epoch": self.epoch}


def operation(environ: dict[str, Any], body: bytes) -> Operation:
    """What a request asks for, from its headers, path and form."""
    scope = _CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
    service = scope["service"] if scope else ""
    method, path = environ.get("REQUEST_METHOD", ""), environ.get("PATH_INFO", "")
    asked = functools.partial(Operation, service=service, method=method, path=path)
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if target:
        return asked(action=target.rpartition(".")[2])
    named = _NAMED_PATH.fullmatch(path)
    if named:
        return asked(action=named["action"])
    text = environ.get("QUERY_STRING", "")
    if environ.get("CONTENT_TYPE", "").startswith(FORM):
        text = f"{text}&{body.decode('utf-8', 'replace')}"
    form = parse_qs(text)
    if "Action" in form:
        dry_run = service == "ec2" and form.get("DryRun", [""])[0].lower() == "true"
        return asked(action=form["Action"][0], dry_run=dry_run)
    for verb, pattern, action in _rest_operations(service):
        if verb == method and pattern.fullmatch(path):
            return asked(action=action)
    return asked(action="")


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
