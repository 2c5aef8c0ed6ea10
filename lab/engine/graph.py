"""The dry run's view of every resource, and the proof that the real run lost nothing of it.

An output that a provider leaves out is None in a real run: the property it fed and its edge in the graph vanish without
an error. In the dry run the same output is unknown and the edge is there. So what the dry run saw has to come back.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lab.engine.errors import ResourceError
from lab.engine.values import Path, look_up, show_path, unknown_paths


@dataclass(frozen=True)
class Expectation:
    """What must have a value, and what each property depends on."""

    unknown: tuple[Path, ...]
    edges: Mapping[str, frozenset[str]]


class Graph:
    """Expectations by URN. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._expected: dict[tuple[str, str], Expectation] = {}

    def record(self, urn: str, role: str, properties: dict[str, Any], edges: Mapping[str, list[str]]) -> None:
        """Keep what the dry run declared; `role` is inputs or outputs."""
        expectation = Expectation(
            tuple(unknown_paths(properties)), {key: frozenset(urns) for key, urns in edges.items() if urns}
        )
        with self._lock:
            self._expected[urn, role] = expectation

    def verify(self, urn: str, role: str, properties: dict[str, Any], edges: Mapping[str, list[str]]) -> None:
        """Raise ResourceError for the first property that lost its value or an edge since the dry run."""
        with self._lock:
            expected = self._expected.get((urn, role))
        if expected is None:
            return
        for path in expected.unknown:
            if look_up(properties, path) is None:
                source = ", ".join(sorted(expected.edges.get(str(path[0]), ()))) or "another resource"
                raise ResourceError(
                    urn,
                    f"{role[:-1]} {show_path(path)!r} has no value: it comes from an output of {source} that the"
                    " provider did not set;"
                    " a provider returns every computed output: correct the provider, or what the program reads",
                )
        for key, urns in expected.edges.items():
            lost = sorted(urns - set(edges.get(key, ())))
            if lost:
                raise ResourceError(
                    urn,
                    f"{role[:-1]} {key!r} depended on {', '.join(lost)} in the dry run and does not now; an output"
                    " of it was not set"
                    " by its provider: correct the provider, or what the program reads",
                )
