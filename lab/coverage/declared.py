"""What the programs declare for lab and prod, asked of `tandem preview`: the lab names no program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lab.coverage import CoverageError

ENVIRONMENTS: Final = ("lab", "prod")
PREVIEW_SECONDS: Final = 120
STAND_IN: Final = "sha256:" + "0" * 64
"""The version the lab serves is trained anew on each machine and stands in no tracked file."""
ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Resource:
    """One resource as a program asks for it."""

    type: str
    """Pulumi's token."""
    inputs: Mapping[str, Any]
    """As they go to the provider."""


def declared() -> list[Resource]:
    """Every resource of both environments by their tracked settings alone. Raises CoverageError."""
    with tempfile.TemporaryDirectory(prefix="tandem-coverage-") as folder:
        home = Path(folder)
        served = home / "lab" / "config"
        served.mkdir(parents=True)
        for path in (ROOT / "stacks" / "config").glob("Pulumi.serving-*.lab.yaml"):
            (served / path.name).write_text(f"config:\n  tandem:model_digest: {STAND_IN}\n", encoding="utf-8")
        return [resource for env in ENVIRONMENTS for resource in _of(env, home)]


def _of(env: str, home: Path) -> list[Resource]:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tandem", "preview", "--env", env, "--format", "json"],
            cwd=ROOT,
            env={**os.environ, "TANDEM_HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=PREVIEW_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CoverageError(f"a preview of {env} takes longer than {PREVIEW_SECONDS} s; find out why") from None
    try:
        return list(resources_of(json.loads(done.stdout)))
    except (ValueError, KeyError):
        raise CoverageError(f"{env} cannot be previewed: {(done.stderr or done.stdout)[-2000:].strip()}") from None


def resources_of(document: Mapping[str, Any]) -> Iterator[Resource]:
    """What a preview tells of as JSON. Raises CoverageError for one that lacks a stack."""
    for name, stack in document["stacks"].items():
        for trouble in stack["diagnostics"]:
            raise CoverageError(f"{name} cannot be evaluated: {trouble['message']}; see tandem preview")
        for step in stack["steps"]:
            yield Resource(step["newState"]["type"], step["newState"]["inputs"])
