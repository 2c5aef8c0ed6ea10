"""What moto has no API for: written down here and acted on by nobody.

The record lives as long as the process of the providers, like the clouds of the lab.
"""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any, ClassVar, Final

from lab.providers.aws.cloud import MARKER_TAG, Cloud
from lab.providers.aws.resource import AwsType
from lab.providers.errors import ProviderError

ACCOUNT: Final = "123456789012"
"""moto's."""
MOMENT: Final = "2026-01-01T00:00:00Z"


class Recorded(AwsType):
    """A thing that is written down and read back, and does nothing."""

    _lock: ClassVar[threading.Lock] = threading.Lock()
    _kept: ClassVar[dict[tuple[str, str], dict[str, Any]]] = {}
    _numbers: ClassVar[Iterator[int]] = itertools.count(1)

    def identity(self, inputs: dict[str, Any]) -> str:
        """What the real provider calls it."""
        raise NotImplementedError

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        identity = self.identity(inputs)
        with self._lock:
            if (self.type_name, identity) in self._kept and not tags:
                return identity  # without tags, making it twice is making it once
            if (self.type_name, identity) in self._kept:
                raise ProviderError(f"{self.type_name} {identity} exists already; import it, or choose another name")
            self._kept[self.type_name, identity] = {"tagsAll": tags, "number": next(self._numbers)}
        return identity

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        with self._lock:
            found = self._kept.get((self.type_name, identity))
        if found is None:
            return None
        return {**self.computed(cloud, identity, inputs, found["number"]), "tagsAll": found["tagsAll"]}

    def computed(self, cloud: Cloud, identity: str, inputs: dict[str, Any], number: int) -> dict[str, Any]:
        """Outputs beside the inputs."""
        raise NotImplementedError

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        """What it says is in the engine's state; nothing here goes by it."""

    def tag(self, cloud: Cloud, identity: str, tags: dict[str, str], removed: list[str]) -> None:
        with self._lock:
            kept = self._kept[self.type_name, identity]["tagsAll"]
            kept |= tags
            for name in removed:
                kept.pop(name, None)

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        with self._lock:
            self._kept.pop((self.type_name, identity), None)

    def marked(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
        with self._lock:
            kept = [(identity, dict(each)) for (kind, identity), each in self._kept.items() if kind == self.type_name]
        for identity, each in kept:
            yield identity, each["tagsAll"].get(MARKER_TAG)
