"""A bounded record of requests refused because the lab lacks the feature."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from lab.kubernetes.api.objects import timestamp

LIMIT = 200


@dataclass
class UnsupportedLog:
    """What was asked for and is not there; alike requests are counted, the oldest entries go first."""

    limit: int = LIMIT
    _entries: OrderedDict[tuple[str, str, str], dict[str, Any]] = field(default_factory=OrderedDict)
    _dropped: int = 0

    def record(self, method: str, path: str, reason: str, client: str) -> None:
        """Note one refused request."""
        key = (method, path[:300], reason[:300])
        entry = self._entries.pop(key, None) or {"method": key[0], "path": key[1], "reason": key[2], "count": 0}
        self._entries[key] = {**entry, "count": entry["count"] + 1, "client": client[:100], "last": timestamp()}
        while len(self._entries) > self.limit:
            self._entries.popitem(last=False)
            self._dropped += 1

    def to_json(self) -> dict[str, Any]:
        """What /tandem/unsupported answers; oldest first."""
        return {"items": list(self._entries.values()), "dropped": self._dropped}
