"""What every handler of one HTTP application shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from lab.kubernetes.api.history import Watch
from lab.kubernetes.api.store import Store
from lab.kubernetes.api.unsupported import UnsupportedLog

PodLogs = Callable[[str, str, str | None, bool, int | None], bytes]
"""Log of (namespace, pod, container, previous, last lines); ApiError when there is none."""


@dataclass(frozen=True)
class Context:
    """The store behind the application and what is kept beside it."""

    store: Store
    pod_logs: PodLogs
    unsupported: UnsupportedLog
    watches: set[Watch] = field(default_factory=set)


CONTEXT: Final = web.AppKey("context", Context)
