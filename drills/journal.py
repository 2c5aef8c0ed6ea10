"""The journal of one drill: what was asked, done and seen, on disk before it matters."""

from __future__ import annotations

import datetime
import json
import os
import platform
import secrets
import time
from pathlib import Path
from typing import Any, Final

from drills.drill import Finding, Observation, Verdict
from signals.snapshot import revision

ROOT: Final = Path(__file__).resolve().parent.parent
FORMAT: Final = 2
OPEN: Final = "open"
"""Status of a journal whose drill has not ended: it runs, or it died."""


class Journal:
    """One JSON file, rewritten whole at each entry, so that a killed drill leaves its undo behind."""

    def __init__(
        self, folder: Path, name: str, env: str, settings: dict[str, Any], zone: str = "", **about: Any
    ) -> None:
        """`about`: what else belongs at its head, such as the claim and the digest of the outputs it went by."""
        started = datetime.datetime.now(datetime.UTC)
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{started:%Y%m%dT%H%M%S}-{name}-{os.getpid()}.json"
        self.drill_id = f"{started:%m%d%H%M%S}-{secrets.token_hex(2)}"
        """Names the Jobs that stand in the sites."""
        self._origin = time.monotonic()
        self.content: dict[str, Any] = {
            "format": FORMAT,
            "drill": name,
            "drill_id": self.drill_id,
            "env": env,
            "zone": zone,
            "heading": "LAB: a rehearsal on one machine, no evidence about production" if env == "lab" else env,
            "status": OPEN,
            "process": os.getpid(),
            "started": started.isoformat(),
            "monotonic_origin": self._origin,
            "revision": revision(ROOT),
            "python": platform.python_version(),
            "settings": settings,
            **about,
            "undo": None,
            "entries": [],
        }
        self._save()

    def entry(self, kind: str, text: str, **detail: Any) -> None:
        """Append one thing that was asked, done or seen."""
        self.content["entries"].append(
            {"seconds": round(time.monotonic() - self._origin, 3), "kind": kind, "text": text, **detail}
        )
        self._save()

    def observed(self, moment: str, observations: list[Observation]) -> None:
        """Record probes' answers at one moment of the drill."""
        self.entry(
            "probe",
            moment,
            observations=[{"probe": o.probe, "held": o.held, "detail": o.detail} for o in observations],
        )

    def undo_stands(self, actions: list[dict[str, Any]]) -> None:
        """Put down, before anything is changed, all that is needed to change it back: kind, arguments, prior state."""
        self.content["undo"] = {"actions": actions, "done": False}
        self._save()

    def undone(self) -> None:
        """The undo was carried out."""
        if self.content["undo"] is not None:
            self.content["undo"]["done"] = True
        self._save()

    @property
    def samples(self) -> Path:
        """The file of every single request, one JSON object a line: what the measures were computed from."""
        return self.path.with_suffix(".jsonl")

    @property
    def clean(self) -> bool:
        """Whether everything this drill changed was put back."""
        return self.content["undo"] is None or bool(self.content["undo"]["done"])

    def end(self, verdict: Verdict, reason: str, findings: list[Finding], measures: dict[str, Any]) -> None:
        """Close the journal with its verdict."""
        self.content["status"] = str(verdict)
        self.content["reason"] = reason
        self.content["ended"] = datetime.datetime.now(datetime.UTC).isoformat()
        self.content["findings"] = [vars(finding) for finding in findings]
        self.content["measures"] = measures
        self._save()

    def _save(self) -> None:
        write_json(self.path, self.content)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace the file in one step: a reader sees the old content or the new."""
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, sort_keys=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def unfinished(folder: Path, zone: str) -> list[Path]:
    """Journals whose drill changed something of this deployment and never put it back, oldest first.

    A deployment is known by its DNS zone: a lab that was taken down took with it whatever was changed in it.
    """
    found = []
    for path, content in read_journals(folder):
        undo = content.get("undo")
        if content.get("zone") == zone and isinstance(undo, dict) and not undo.get("done"):
            found.append(path)
    return found


def read_journals(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The folder's journals of this format, oldest first; a file that cannot be read or is none is left out."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict) and content.get("format") == FORMAT:
            found.append((path, content))
    return found
