"""A control plane in trouble: for a while every write is refused, in the words of the service that is asked."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from xml.sax.saxutils import escape

import botocore.exceptions
import botocore.session

from lab.aws.request_log import FORM

CBOR: Final = "rpc-v2-cbor"
LONGEST_SECONDS: Final = 86_400
UNAVAILABLE: Final = "ServiceUnavailable"
REASON: Final = "Service is unable to handle request: the lab was told to refuse writes for a while"
REQUEST_ID: Final = "00000000-0000-0000-0000-000000000000"


class WriteRefusal:
    """Whether writes are refused at this moment; it ends by itself, whoever began it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: float | None = None

    def begin(self, seconds: Any) -> None:
        """Refuse from now on for so many seconds; raises ValueError for what is no such number."""
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST_SECONDS:
            raise ValueError(
                f"seconds is {seconds!r}; it must be a number above 0 and at most {LONGEST_SECONDS}: send one that is"
            )
        self._until = self._clock() + seconds

    def end(self) -> None:
        """Let writes through again."""
        self._until = None

    @property
    def seconds(self) -> float:
        """How long it goes on; 0 while writes are let through."""
        return 0.0 if self._until is None else max(0.0, self._until - self._clock())


@dataclass(frozen=True)
class ServiceError:
    """An error as one service's clients read it."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def service_error(environ: dict[str, Any], service: str, code: str, message: str, status: int) -> ServiceError:
    """An error in the protocol of its request: query, EC2, JSON, REST with XML or JSON."""
    protocol = _protocol(environ, service)
    text = escape(message)
    if protocol == "cbor":
        headers = [("Content-Type", "application/cbor"), ("smithy-protocol", CBOR), ("x-amzn-RequestId", REQUEST_ID)]
        entries = b"".join(map(_cbor_text, ("__type", code, "message", message)))
        return ServiceError(status, headers, b"\xa2" + entries)
    if protocol in ("json", "rest-json"):
        kind = "application/x-amz-json-1.1" if protocol == "json" else "application/json"
        headers = [("Content-Type", kind), ("x-amzn-ErrorType", code), ("x-amzn-RequestId", REQUEST_ID)]
        return ServiceError(status, headers, json.dumps({"__type": code, "message": message}).encode())
    fault = "Sender" if status < 500 else "Receiver"
    if protocol == "ec2":
        inner = f"<Errors><Error><Code>{code}</Code><Message>{text}</Message></Error></Errors>"
        body = f"<Response>{inner}<RequestID>{REQUEST_ID}</RequestID></Response>"
    elif service == "s3":
        body = f"<Error><Code>{code}</Code><Message>{text}</Message><RequestId>{REQUEST_ID}</RequestId></Error>"
    else:
        inner = f"<Error><Type>{fault}</Type><Code>{code}</Code><Message>{text}</Message></Error>"
        body = f"<ErrorResponse>{inner}<RequestId>{REQUEST_ID}</RequestId></ErrorResponse>"
    return ServiceError(status, [("Content-Type", "text/xml")], f'<?xml version="1.0"?>\n{body}'.encode())


def _cbor_text(text: str) -> bytes:
    """A text as CBOR writes it (RFC 8949), its length in two bytes."""
    encoded = text.encode()[:0xFFFF]
    return b"\x79" + len(encoded).to_bytes(2, "big") + encoded


def _protocol(environ: dict[str, Any], service: str) -> str:
    if environ.get("HTTP_SMITHY_PROTOCOL") == CBOR:
        return "cbor"
    if environ.get("HTTP_X_AMZ_TARGET"):
        return "json"
    content = environ.get("CONTENT_TYPE", "")
    if service == "ec2":
        return "ec2"
    if content.startswith(FORM):
        return "query"
    return _rest_protocol(service) or ("rest-json" if "json" in content else "rest-xml")


@functools.cache
def _rest_protocol(service: str) -> str:
    """The protocol in botocore's model of a service; empty for one it has no model of."""
    try:
        model = botocore.session.Session().get_service_model(service)
    except (botocore.exceptions.UnknownServiceError, botocore.exceptions.DataNotFoundError, ValueError):
        return ""
    return str(model.metadata["protocol"])
