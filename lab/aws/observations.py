"""What the prober saw, in the XML that GetHealthCheckStatus and GetHealthCheckLastFailureReason answer with."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape

from lab.aws.route53_rules import NAMESPACE

ANSWER_SECONDS = 2.0


class ProberAwayError(RuntimeError):
    """The prober's status API did not answer."""


def report(prober_url: str) -> dict[str, Any]:
    """The prober's whole report."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{prober_url}/status", timeout=ANSWER_SECONDS) as answer:
            document: dict[str, Any] = json.load(answer)
    except (OSError, ValueError, urllib.error.URLError) as error:
        raise ProberAwayError(
            f"{prober_url}/status: {error}; every health check is answered from the prober: is route53 running?"
            " see `tandem lab status`"
        ) from None
    return document


def document(operation: str, check: dict[str, Any] | None) -> bytes:
    """One observation per checker that has one; `operation` names the answer and picks results or last failures."""
    moment, text = ("last_failure_time", "last_failure") if "Failure" in operation else ("last_time", "last_result")
    observations = "".join(
        "<HealthCheckObservation>"
        f"<Region>{escape(checker['region'])}</Region><IPAddress>{escape(checker['address'])}</IPAddress>"
        f"<StatusReport><Status>{escape(checker[text])}</Status>"
        f"<CheckedTime>{_iso(checker[moment])}</CheckedTime></StatusReport>"
        "</HealthCheckObservation>"
        for checker in (check or {}).get("checkers", [])
        if checker[moment]
    )
    return (
        f'<?xml version="1.0"?>\n<{operation}Response xmlns="{NAMESPACE}"><HealthCheckObservations>{observations}'
        f"</HealthCheckObservations></{operation}Response>"
    ).encode()


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
