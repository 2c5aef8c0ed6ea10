"""How a serving pod ends without losing a request: the steps, and whether its grace period has room for them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from infra.checks import SettingError

PAUSE_SECONDS: Final = 3
"""How long a stopping pod goes on serving at least: until every proxy has heard that it is leaving."""
SPARE_SECONDS: Final = 2
"""What a grace period that is not set has on top; SIGKILL then meets only what hangs."""
TRITON: Final = "triton"
TRITON_REST_SECONDS: Final = 5
"""How long the stub of a Python-backend model may live on behind the server that is gone."""
GATEWAY: Final = "gateway"
GATEWAY_DRAIN_SECONDS: Final = 1
"""How long a gateway goes on answering after SIGTERM, red (serving/server.py)."""
GATEWAY_REST_SECONDS: Final = 5
"""What a busy machine may take to end a Python process."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """The last seconds of a pod, in order."""

    pause_seconds: int
    """preStop: it still serves, and nothing new should come."""
    exit_seconds: int
    """From SIGTERM until the program has answered what it has in flight."""
    rest_seconds: int
    """How long something of it may live on after that."""
    grace_seconds: int
    """When the kubelet kills what is left, counted from the beginning of the pause."""


def ending(
    who: str,
    *,
    pause_seconds: int,
    exit_seconds: int,
    rest_seconds: int,
    grace_seconds: int = 0,
    deregistration_seconds: int = 0,
) -> Ending:
    """The steps added up; raises SettingError where they do not fit.

    A pause of 0 is as long as the edge needs to let go of the pod, a grace of 0 as long as all of it takes. The
    kubelet's grace period runs during preStop too
    (https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/#hook-handler-execution).
    """
    pause = pause_seconds or max(PAUSE_SECONDS, deregistration_seconds)
    if pause < deregistration_seconds:
        raise SettingError(
            f"{who}_pause_seconds is {pause}; the edge may send to a leaving pod for {deregistration_seconds} s"
            f" (edge_deregistration_seconds of the pool), and what comes after the pause is refused: set"
            f" {who}_pause_seconds to at least {deregistration_seconds}, or to 0 for exactly as long as it takes"
        )
    needed = pause + exit_seconds + rest_seconds
    grace = grace_seconds or needed + SPARE_SECONDS
    if grace <= needed:
        raise SettingError(
            f"{who}_grace_seconds is {grace}; pause {pause} + exit {exit_seconds} + rest {rest_seconds} = {needed} s,"
            f" and what is not over by then is killed with its requests: set {who}_grace_seconds above {needed}, or to"
            " 0 for as long as it takes"
        )
    return Ending(pause_seconds=pause, exit_seconds=exit_seconds, rest_seconds=rest_seconds, grace_seconds=grace)


def gateway_exit_seconds(request_timeout_seconds: float) -> int:
    """From SIGTERM until what is in flight is answered: still open for a moment, then as long as a request may take."""
    return GATEWAY_DRAIN_SECONDS + int(request_timeout_seconds) + 2
