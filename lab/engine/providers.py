"""The provider instances of one run: each is opened once, from the program's declaration or from the record."""

from __future__ import annotations

import threading

from lab.engine.errors import ResourceError
from lab.engine.loopback import refuse_others
from lab.engine.plugin import Plugin
from lab.engine.snapshot import Snapshot


class Providers:
    """Open connections by provider reference (`urn::id`). Safe to use from several threads."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._lock = threading.RLock()
        self._open: dict[str, Plugin] = {}

    def add(self, plugin: Plugin) -> None:
        """Take over a configured instance."""
        with self._lock:
            self._open[f"{plugin.urn}::{plugin.id}"] = plugin

    def get(self, reference: str, urn: str) -> Plugin:
        """The instance a resource names; opened from its record where the program has not declared it."""
        with self._lock:
            plugin = self._open.get(reference)
            if plugin is None:
                recorded = next(
                    (
                        each
                        for each in self._snapshot.state().resources
                        if each.is_provider and each.reference == reference
                    ),
                    None,
                )
                if recorded is None:
                    raise ResourceError(
                        urn,
                        f"its provider {reference!r} is neither declared nor recorded; declare it before the"
                        " resources that use it",
                    )
                plugin = Plugin(recorded.urn, recorded.id)
                refuse_others(recorded.urn, plugin.package, recorded.inputs)
                plugin.configure(recorded.inputs)
                self.add(plugin)
            return plugin

    def cancel(self) -> None:
        """Ask all of them to give up what is running."""
        with self._lock:
            for plugin in self._open.values():
                plugin.cancel()

    def close(self) -> None:
        """Drop all connections."""
        with self._lock:
            for plugin in self._open.values():
                plugin.close()
            self._open.clear()
