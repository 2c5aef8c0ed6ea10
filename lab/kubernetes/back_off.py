"""How long a container that ended waits for its next start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

BACK_OFF_LIMIT_SECONDS: Final = 300.0
BACK_OFF_RESET_SECONDS: Final = 600.0


@dataclass
class BackOff:
    """Kubernetes' restart delays: none for the first restart, then base, doubling up to five minutes."""

    base_seconds: float
    _next: float = 0.0

    def after(self, ran_seconds: float) -> float:
        """The delay before the next start, given how long the last run took."""
        if ran_seconds >= BACK_OFF_RESET_SECONDS:
            self._next = 0.0
        delay = self._next
        self._next = min(delay * 2 or self.base_seconds, BACK_OFF_LIMIT_SECONDS)
        return delay
