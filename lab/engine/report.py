"""What a run tells while it goes on: plain lines for people, Pulumi's event JSON for programs."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TextIO

from lab.engine.difference import Difference
from lab.engine.state import Resource
from lab.engine.urn import STACK_TYPE, Urn
from lab.engine.values import mask

WORDS: Final = {
    "create": "created",
    "update": "updated",
    "replace": "replaced",
    "delete": "deleted",
    "delete-replaced": "deleted after replacement",
    "same": "unchanged",
    "read": "read",
}


@dataclass(frozen=True)
class Step:
    """One change, as a preview shows it."""

    op: str
    urn: str
    type: str
    provider: str = ""
    old: Resource | None = None
    new: Resource | None = None
    difference: Difference = field(default_factory=Difference)

    def to_json(self) -> dict[str, Any]:
        """The step in PreviewDigest shape; secrets masked."""
        record: dict[str, Any] = {"op": self.op, "urn": self.urn}
        if self.provider:
            record["provider"] = self.provider
        for key, state in (("oldState", self.old), ("newState", self.new)):
            if state is not None:
                record[key] = mask(state.to_json())
        if self.difference.keys:
            record["diffReasons"] = self.difference.keys
        if self.difference.replaces:
            record["replaceReasons"] = self.difference.replaces
        record["detailedDiff"] = self.difference.details or None
        return record


class Reporter(Protocol):
    """Where progress goes. Called from several threads."""

    def step(self, step: Step) -> None:
        """One step is done."""

    def log(self, severity: str, message: str, urn: str = "") -> None:
        """Something was said: debug, info, warning or error."""

    def summary(self, counts: Counter[str], seconds: float, *, failed: bool) -> None:
        """The run is over."""


class Lines:
    """A line per change and message, on standard error."""

    def __init__(self, stream: TextIO | None = None, *, preview: bool = False) -> None:
        self._stream = stream or sys.stderr
        self._lead = "would be " if preview else ""
        self._lock = threading.Lock()

    def _say(self, text: str) -> None:
        with self._lock:
            print(text, file=self._stream, flush=True)

    def step(self, step: Step) -> None:
        if step.op not in {"same", "read"}:
            self._say(f"{self._lead}{WORDS[step.op]}: {step.type} {Urn.parse(step.urn).name}")

    def log(self, severity: str, message: str, urn: str = "") -> None:
        if severity != "debug":
            about = f" ({urn})" if urn and urn not in message and Urn.parse(urn).type != STACK_TYPE else ""
            self._say(f"{'' if severity == 'info' else severity + ': '}{message.rstrip()}{about}")

    def summary(self, counts: Counter[str], seconds: float, *, failed: bool) -> None:
        said = ", ".join(
            f"{number} {self._lead if op != 'same' else ''}{WORDS[op]}" for op, number in sorted(counts.items())
        )
        self._say(f"{'failed' if failed else 'done'}: {said or 'nothing to do'}; {seconds:.1f} s")


class Events:
    """A JSON object per line on standard output, in the shape of `pulumi up --json`."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._lock = threading.Lock()
        self._sequence = 0

    def _emit(self, kind: str, payload: dict[str, Any]) -> None:
        with self._lock:
            event = {"sequence": self._sequence, "timestamp": int(time.time()), kind: payload}
            self._sequence += 1
            print(json.dumps(event, separators=(",", ":")), file=self._stream, flush=True)

    def step(self, step: Step) -> None:
        metadata = {"op": step.op, "urn": step.urn, "type": step.type, "provider": step.provider}
        self._emit("resOutputsEvent", {"metadata": metadata})

    def log(self, severity: str, message: str, urn: str = "") -> None:
        prefix = "" if severity == "info" else f"{severity}: "
        self._emit(
            "diagnosticEvent",
            {"urn": urn, "prefix": prefix, "message": message, "severity": severity, "color": "never"},
        )

    def summary(self, counts: Counter[str], seconds: float, *, failed: bool) -> None:
        result = "failed" if failed else "succeeded"
        self._emit(
            "summaryEvent", {"durationSeconds": round(seconds), "resourceChanges": dict(counts), "result": result}
        )
