"""What the DNS service's checkers report, asked seldom enough for its API: 5 requests/s for a whole account.

Errors: UnaskedError
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from drills.access import route53
from drills.drill import DrillError
from stacks.contract import TrafficOutputs

KEPT_SECONDS: Final = 2.0
"""Probes that ask for the same check within so long share one answer."""
THROTTLED: Final = frozenset({"Throttling", "ThrottlingException", "PriorRequestNotComplete"})


class UnaskedError(DrillError):
    """The DNS service did not tell what its checkers see; nothing is known of them."""


@dataclass
class _Kept:
    """The last answer for one check."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    until: float = 0.0
    answer: tuple[int, int] | str = ""
    """How many succeed and how many there are, or why that is not known."""


_kept: Final[defaultdict[tuple[str, str], _Kept]] = defaultdict(_Kept)
_keeping: Final = threading.Lock()


def succeeding(traffic: TrafficOutputs, check: str) -> tuple[int, int]:
    """How many of a check's checkers had a good answer at their last try, and how many there are.

    Up to KEPT_SECONDS old, a refusal too. Raises UnaskedError.
    """
    with _keeping:
        kept = _kept[traffic.dns_api, check]
    with kept.lock:
        if time.monotonic() >= kept.until:
            kept.answer = _ask(traffic, check)
            kept.until = time.monotonic() + KEPT_SECONDS
        answer = kept.answer
    if isinstance(answer, str):
        raise UnaskedError(answer)
    return answer


def _ask(traffic: TrafficOutputs, check: str) -> tuple[int, int] | str:
    try:
        status = route53(traffic).get_health_check_status(HealthCheckId=check)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in THROTTLED:
            return (
                "the DNS service's API throttles: it takes 5 requests/s from a whole account, so nothing is known of"
                " the checkers; ask again when others ask less"
            )
        return str(error)
    except BotoCoreError as error:
        return str(error)
    reports = [seen["StatusReport"]["Status"] for seen in status["HealthCheckObservations"]]
    return sum(report.startswith("Success") for report in reports), len(reports)
