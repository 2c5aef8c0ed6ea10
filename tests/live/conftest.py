"""One line of everything, brought up once for the tests that need it: lab, stacks, a trained model on both sites."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import trials.line
from lab.topology import Topology
from trials.up_kill import override

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("drills", "infra", "lab", "serving", "signals", "stacks")
STEP_DEADLINE_SECONDS = 300
CLOCK_FACTOR = 4
HOLD_DOWN_SECONDS = 5
PATIENT = {"request_timeout_seconds": "5.0", "objective_recovery_seconds": 45, "objective_p99_ms": 2000}
"""What traffic promises here, as every processor is shared with other tests: seconds of grace, no speed."""
PORT_BESIDE = 7361
"""Of the providers of a lab beside the one at the default addresses."""


@dataclass(frozen=True)
class Line:
    """A deployment in the lab and the command that works on it."""

    home: Path
    digest: str

    def tandem(self, *arguments: str, root: Path = ROOT, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run_tandem(self.home, *arguments, root=root, check=check)

    def outputs(self) -> dict[str, dict[str, object]]:
        return json.loads(self.tandem("outputs", "--env", "lab", "--json").stdout)


def run_tandem(home: Path, *arguments: str, root: Path = ROOT, check: bool = True) -> subprocess.CompletedProcess[str]:
    """`tandem ...` from the sources at `root`; what it said is in the failure when it was to succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "tandem", *arguments],
        cwd=root,
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=STEP_DEADLINE_SECONDS,
        check=False,
    )
    assert not check or done.returncode == 0, f"tandem {' '.join(arguments)}: {done.returncode}\n{done.stderr[-4000:]}"
    return done


def environment(home: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "PULUMI_"))}
    return {**kept, "TANDEM_HOME": str(home), "COLUMNS": "200"}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The line lives until the last test that needs it, and there is one lab at a time: its tests come last.

    Of these, those come after the others that change which version is served, and last those that take it down.
    """
    changing = ("under_load", "up_killed")
    items.sort(
        key=lambda item: (
            "line" in getattr(item, "fixturenames", ()),
            *(each in item.nodeid for each in reversed(changing)),
        )
    )


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `tandem model train --json` said of a model trained for a moment."""
    home = tmp_path_factory.mktemp("package")
    options = ("--data", "generated", "--out", str(home / "models"), "--seconds", "8", "--json")
    return run_tandem(home, "model", "train", *options).stdout


@contextmanager
def whole_line(home: Path, package: str, blocks: Mapping[str, str] | None = None) -> Iterator[Line]:
    """A line that is up; with `blocks` at addresses of its own, by settings and the lab's description.

    Health checks are four times faster than declared, the hold-down is shorter and users are more patient;
    `make rehearse` has the real clock and the declared promises.
    """
    trained = json.loads(package)
    options = ["--clock-factor", str(CLOCK_FACTOR)]
    if blocks:
        options += ["--topology", str(moved(home, blocks))]
    driven = trials.line.Line(home, print)
    override(driven, "traffic", PATIENT)
    for site in ("private", "public"):
        override(driven, f"serving-{site}", {"hold_down_seconds": HOLD_DOWN_SECONDS})
    try:
        run_tandem(home, "lab", "up", *options)
        run_tandem(home, "up", "--env", "lab", "--layer", "storage")
        run_tandem(home, "model", "publish", trained["package"], "--env", "lab")
        run_tandem(home, "model", "promote", trained["digest"], "--env", "lab", "--all-sites")
        run_tandem(home, "up", "--env", "lab")
        yield Line(home, trained["digest"])
    finally:
        run_tandem(home, "lab", "down")


def moved(home: Path, blocks: Mapping[str, str]) -> Path:
    """Settings over the tracked ones that have their addresses in these blocks; the description of such a lab."""
    folder = home / "lab" / "config"
    folder.mkdir(parents=True, exist_ok=True)
    for tracked in (ROOT / "stacks" / "config").glob("*.lab.yaml"):
        (folder / tracked.name).write_text(at(blocks, tracked.read_text(encoding="utf-8")), encoding="utf-8")
    described = home / "topology.json"
    default = {**Topology.default().to_json(), "provider_port": PORT_BESIDE}
    described.write_text(at(blocks, json.dumps(default)), encoding="utf-8")
    return described


def at(blocks: Mapping[str, str], text: str) -> str:
    """The text with each block's addresses in another one."""
    return re.sub(r"\b127\.\d+\b", lambda found: blocks.get(found[0], found[0]), text)


@pytest.fixture(scope="session")
def line(tmp_path_factory: pytest.TempPathFactory, package: str) -> Iterator[Line]:
    with whole_line(tmp_path_factory.mktemp("line") / "home", package) as line:
        yield line


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A copy of the programs and all they need, to be broken on purpose."""
    root = tmp_path / "programs"
    root.mkdir()
    for room in ROOMS:
        shutil.copytree(ROOT / room, root / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Pulumi.yaml", "tandem.py", "gates.py", "release.py", "rehearsal.py"):
        shutil.copy(ROOT / name, root / name)
    return root
