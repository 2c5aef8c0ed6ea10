"""`make bench-preview`: a preview costs the same for each site, however many there are.

Previews of prod with 2, 5 and 10 sites, by the command a person types. Further sites are settings files in a home of
their own, made from those of the two tracked sites; no tracked file is touched. The sizes take turns, and of each the
quickest round counts: what else a machine does makes a round slower and none quicker.

A preview has to start, whatever it is of: the command and the programs' libraries are imported. That is measured in the
same rounds and taken off before anything is divided by sites. Memory is what all processes of the command hold
together at once, a page that several share counted once.

Exit 1 when the time per site of one size is more than a quarter longer than that of another, or a preview fails.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import yaml

ENV: Final = "prod"
ROOT: Final = Path(__file__).resolve().parents[1]
CONFIG: Final = ROOT / "stacks" / "config"
TRAFFIC: Final = f"Pulumi.traffic.{ENV}.yaml"
SIZES: Final = (2, 5, 10)
SPREAD: Final = 1.25
"""So much longer than the cheapest may the time per site of a size be."""
STEP_SECONDS: Final = 600
SAMPLE_SECONDS: Final = 0.1
MIB: Final = 2**20
EVALUATOR: Final = ROOT / "stacks" / "preview" / "evaluator.py"


class BenchError(Exception):
    """A preview that fails; its time says nothing."""


@dataclass(frozen=True)
class Preview:
    """One preview of an environment with so many sites, in the home where its settings are."""

    sites: int
    home: Path

    def run(self) -> float:
        """Seconds it takes. Raises BenchError."""
        started = time.monotonic()
        done = subprocess.run(
            self.command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=STEP_SECONDS, check=False
        )
        seconds = time.monotonic() - started
        if done.returncode != 0:
            raise BenchError(
                f"tandem preview of {self.sites} sites: exit code {done.returncode}; only one that passes is measured:\n"
                f"{(done.stdout + done.stderr)[-2000:]}"
            )
        return seconds

    def memory(self) -> int:
        """Most bytes that its processes hold together."""
        with subprocess.Popen(
            self.command, cwd=ROOT, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            most = 0
            deadline = time.monotonic() + STEP_SECONDS
            try:
                while process.poll() is None and time.monotonic() < deadline:
                    most = max(most, held(process.pid))
                    time.sleep(SAMPLE_SECONDS)
            finally:
                process.kill()
        return most

    @property
    def command(self) -> Sequence[str]:
        """As a person would type it."""
        return [sys.executable, "-m", "tandem", "preview", "--env", ENV]

    @property
    def environment(self) -> Mapping[str, str]:
        """This one's, with the home that adds the sites."""
        return {**os.environ, "TANDEM_HOME": str(self.home)}


def held(pid: int) -> int:
    """Bytes of a process and all below it: a page shared by three counts a third in each, where the kernel tells."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                memory = process.memory_full_info()
                total += getattr(memory, "pss", memory.uss)
    return total


def start_seconds() -> float:
    """Seconds before anything is evaluated: the command's own modules, then the evaluator's libraries."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        for command in (
            [sys.executable, "-m", "tandem", "preview", "--help"],
            [sys.executable, "-P", str(EVALUATOR), str(ROOT), folder],
        ):
            subprocess.run(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, timeout=STEP_SECONDS, check=True
            )
    return time.monotonic() - started


def settings(sites: int) -> dict[str, dict[str, Any]]:
    """Settings files, by name, that make an environment of so many sites out of the tracked one of two."""
    traffic = _config(TRAFFIC)
    tracked = sorted(traffic["tandem:sites"])
    copies = [(tracked[number % len(tracked)], number // len(tracked) + 1) for number in range(len(tracked), sites)]
    found: dict[str, dict[str, Any]] = {}
    members: dict[str, list[str]] = {site: [site] for site in tracked}
    for original, number in copies:
        name = f"{original}-{number}"
        members[original].append(name)
        for path in sorted(CONFIG.glob(f"Pulumi.*-{original}.{ENV}.yaml")):
            config = _renamed(_config(path.name), original, name)
            found[path.name.replace(f"-{original}.", f"-{name}.")] = {"config": config}
    found[TRAFFIC] = {"config": _shared(traffic, members)}
    return found


def _config(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((CONFIG / name).read_text(encoding="utf-8"))
    config: dict[str, Any] = content["config"]
    return config


def _renamed(value: Any, old: str, new: str) -> Any:
    """A site's settings as another one's: its name wherever it is a word, but for its kind."""
    if isinstance(value, dict):
        return {
            key: item if key == "tandem:kind" else _renamed(item, old, new)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_renamed(item, old, new) for item in value]
    return re.sub(rf"\b{old}\b", new, value) if isinstance(value, str) else value


def _shared(traffic: Mapping[str, Any], members: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The traffic settings with every list and map of sites naming the copies too, the weights alike."""
    everyone = sorted(site for group in members.values() for site in group)

    def widened(value: Any) -> Any:
        if isinstance(value, list) and value and set(value) <= set(members):
            return [site for original in value for site in members[original]]
        if isinstance(value, dict) and value and set(value) <= set(members):
            return {site: item for original, item in value.items() for site in members[original]}
        return value

    config = {key: widened(value) for key, value in traffic.items()}
    config["tandem:sites"] = dict.fromkeys(everyone, 10)
    return config


def write(home: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Put settings files where an environment's overrides are."""
    folder = home / ENV / "config"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
