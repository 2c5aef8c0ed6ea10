"""Defences that can be switched off: what a drill's claim rests on, taken out of the system, never out of a probe."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from stacks.contract import PROJECT
from trials.line import ENV, ROOT, Line, TrialError

ROOMS: Final = ("drills", "infra", "lab", "serving", "signals", "stacks", "trials")
FILES: Final = ("Pulumi.yaml", "pyproject.toml", "tandem.py", "release.py", "rehearsal.py")


@dataclass(frozen=True)
class Edit:
    """One place of the programs, put differently."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, kw_only=True)
class Defence:
    """What is switched off, and which stacks have to be brought up for it."""

    name: str
    stacks: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    edits: tuple[Edit, ...] = ()
    lab_options: tuple[str, ...] = ()
    """For a defence of the DNS service itself: the lab is started anew with these."""

    @contextmanager
    def off(self, line: Line) -> Iterator[None]:
        """The system without it; with it again afterwards."""
        stacks = [argument for stack in self.stacks for argument in ("--stack", stack)]
        if not stacks:
            yield
            return
        kept = {stack: _override(line, stack, self.settings) for stack in self.stacks}
        try:
            line.tandem("up", "--env", ENV, *stacks, root=_programs(line, self.edits))
            yield
        finally:
            for path, before in kept.values():
                _put(path, before)
            line.tandem("up", "--env", ENV, *stacks)


def _programs(line: Line, edits: Sequence[Edit]) -> Path:
    """The programs as they are, or a copy of them with the edits."""
    if not edits:
        return ROOT
    copy = line.home / "programs"
    shutil.rmtree(copy, ignore_errors=True)
    for room in ROOMS:
        shutil.copytree(ROOT / room, copy / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, copy / name)
    for edit in edits:
        path = copy / edit.file
        text = path.read_text(encoding="utf-8")
        if edit.old not in text:
            raise TrialError(f"{edit.file} does not say {edit.old!r} any more; adapt the defence to the program")
        path.write_text(text.replace(edit.old, edit.new), encoding="utf-8")
    return copy


def _override(line: Line, stack: str, settings: Mapping[str, Any]) -> tuple[Path, str | None]:
    """Write the settings into the environment's own file; its path and its content before."""
    path = line.home / ENV / "config" / f"Pulumi.{stack}.{ENV}.yaml"
    before = path.read_text(encoding="utf-8") if path.exists() else None
    if settings:
        content = (yaml.safe_load(before) if before else {}) or {}
        content.setdefault("config", {}).update({f"{PROJECT}:{key}": value for key, value in settings.items()})
        _put(path, yaml.safe_dump(content, sort_keys=False))
    return path, before


def _put(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink(missing_ok=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


UNCHECKED: Final = Defence(
    name="records go by no health check",
    stacks=("traffic",),
    edits=(Edit("infra/failover.py", "health_check_id=check,", "health_check_id=None,"),),
)
LIVENESS: Final = Defence(
    # Readiness rests on the golden answer as well: with one of them alone the site still leaves.
    name="checks and readiness ask for liveness instead of the golden answer",
    stacks=("serving-private", "traffic"),
    edits=(
        Edit("infra/gateway.py", "readiness_probe=pod.probe(READY_PATH,", "readiness_probe=pod.probe(LIVE_PATH,"),
        Edit("infra/failover.py", "resource_path=args.health.path,", 'resource_path="/livez",'),
        Edit("infra/failover.py", "search_string=args.health.token,", 'search_string="alive",'),
    ),
)
NO_DRAIN_CHECK: Final = Defence(
    name="the record's check does not look at drain marks",
    stacks=("traffic",),
    edits=(Edit("infra/failover.py", "[golden, *drains])\n", "[golden])\n"),),
)
NO_HOLD_DOWN: Final = Defence(name="hold-down 0", stacks=("serving-private",), settings={"hold_down_seconds": 0})
NO_SECOND_POD: Final = Defence(
    name="one gateway and one model server",
    stacks=("serving-private",),
    settings={"triton_replicas": 1, "gateway_replicas": 1},
)
NO_SHARE: Final = Defence(
    name="a DNS service that drops a site when half of its checkers do", lab_options=("--healthy-share", "0.8")
)
