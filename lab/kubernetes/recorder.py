"""Events: what the controllers and the kubelet want a person to find beside an object."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import Literal

from lab.kubernetes.api.errors import ApiError, NotFound
from lab.kubernetes.api.kinds import EVENT
from lab.kubernetes.api.objects import Object, name_of, namespace_of, timestamp, uid_of
from lab.kubernetes.api.store import Store

log = logging.getLogger(__name__)

MESSAGE_LIMIT = 1024


@dataclass(frozen=True)
class Recorder:
    """Writes Events of one component; a repeated one is counted, not written again."""

    store: Store
    component: str

    def normal(self, about: Object, reason: str, message: str) -> None:
        """Something went as it should."""
        self._record(about, "Normal", reason, message)

    def warning(self, about: Object, reason: str, message: str) -> None:
        """Something went wrong."""
        self._record(about, "Warning", reason, message)

    def _record(self, about: Object, severity: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        message = message[:MESSAGE_LIMIT]
        same = hashlib.sha256(f"{uid_of(about)} {reason} {message}".encode()).hexdigest()[:16]
        name, namespace, now = f"{name_of(about)[:200]}.{same}", namespace_of(about) or "default", timestamp()
        try:
            try:
                event = self.store.get(EVENT, namespace, name)
            except NotFound:
                level = logging.WARNING if severity == "Warning" else logging.INFO
                log.log(level, "%s %s/%s: %s: %s", about.get("kind"), namespace, name_of(about), reason, message)
                self.store.create(EVENT, self._new(about, namespace, name, severity, reason, message, now))
            else:
                event["count"] = int(event.get("count") or 1) + 1
                event["lastTimestamp"] = now
                self.store.update(EVENT, event)
        except ApiError as error:  # a namespace that is going away takes no Events
            log.info("event %s about %s not recorded: %s", reason, name_of(about), error)

    def _new(
        self, about: Object, namespace: str, name: str, severity: str, reason: str, message: str, now: str
    ) -> Object:
        return {
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {
                "apiVersion": about.get("apiVersion", ""),
                "kind": about.get("kind", ""),
                "name": name_of(about),
                "namespace": namespace_of(about),
                "uid": uid_of(about),
            },
            "reason": reason,
            "message": message,
            "type": severity,
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": self.component},
            "reportingComponent": self.component,
            "reportingInstance": "",
        }
