"""`tandem preview` on the programs as they are: a copy under version control of its own, changed in one place."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("drills", "infra", "lab", "serving", "signals", "stacks")
FILES = ("Pulumi.yaml", "tandem.py", "gates.py", "release.py", "rehearsal.py")
RUN_SECONDS = 120


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("programs")
    for room in ROOMS:
        shutil.copytree(ROOT / room, root / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, root / name)
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "-c", "user.name=t", "-c", "user.email=t@tandem.test", "commit", "--quiet", "--message", "as it is")
    return root


def git(root: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(root), *arguments], check=True, timeout=60)


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Nothing of this machine's own: no credentials, no CLI, no home.
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "PULUMI_", "TANDEM_"))}
    return subprocess.run(
        [sys.executable, "-m", "tandem", "preview", *arguments],
        cwd=root,
        env={**kept, "PYTHONPATH": str(root), "TANDEM_HOME": str(root / ".home"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )


@contextmanager
def changed(root: Path, name: str, old: str, new: str) -> Iterator[None]:
    """A file with one thing written otherwise, while the block runs."""
    path = root / name
    kept = path.read_text()
    written, number = re.subn(old, new, kept)
    assert number == 1, f"{old} stands {number} times in {name}"
    path.write_text(written)
    try:
        yield
    finally:
        path.write_text(kept)


def steps(done: subprocess.CompletedProcess[str]) -> dict[str, list[dict[str, Any]]]:
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    stacks = json.loads(done.stdout)["stacks"]
    return {
        name: [step for step in stack["steps"] if step["op"] != "same"]
        for name, stack in stacks.items()
        if any(step["op"] != "same" for step in stack["steps"])
    }


def test_every_stack_of_prod_is_shown_and_no_rule_is_violated(project: Path) -> None:
    done = run(project, "--env", "prod")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "program diff: no state, no drift" in done.stdout
    for stack in ("storage", "pool", "platform", "serving"):
        assert f"\n{stack}-private.prod\n" in done.stdout
        assert f"\n{stack}-public.prod\n" in done.stdout
    assert "\ntraffic.prod\n" in done.stdout
    assert "no rule is violated" in done.stdout


def test_nothing_changed_is_nothing_to_do(project: Path) -> None:
    done = run(project, "--env", "prod", "--against", "HEAD")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing changes" in done.stdout


def test_one_changed_weight_is_that_update_and_no_other(project: Path) -> None:
    with changed(project, "stacks/config/Pulumi.traffic.prod.yaml", r"    private: 70\n", "    private: 60\n"):
        found = steps(run(project, "--env", "prod", "--against", "HEAD", "--format", "json"))
    # The users' record and the one of the shadow name beside it.
    assert set(found) == {"traffic.prod"}
    assert {step["op"] for step in found["traffic.prod"]} == {"update"}
    diffs = [step["diffReasons"] for step in found["traffic.prod"]]
    assert diffs == [["weightedRoutingPolicies[0].weight"]] * 2


def test_a_cluster_with_another_name_is_replaced_and_says_why(project: Path) -> None:
    with changed(
        project, "stacks/config/Pulumi.pool-public.prod.yaml", "cluster_name: tandem-public", "cluster_name: x"
    ):
        found = steps(run(project, "--env", "prod", "--against", "HEAD", "--format", "json"))
        shown = run(project, "--env", "prod", "--against", "HEAD", "--stack", "pool-public")
    replaced = [step for step in found["pool-public.prod"] if step["op"] == "replace"]
    assert "aws:eks/cluster:Cluster" in {step["newState"]["type"] for step in replaced}
    assert "replace     aws:eks/cluster:Cluster" in shown.stdout
    assert "[replace: the AWS provider cannot change it in place]" in shown.stdout


def test_what_nobody_here_knows_is_said_to_be_the_providers_to_decide(project: Path) -> None:
    there = "access_config=eks.ClusterAccessConfigArgs("
    with changed(project, "infra/public_pool.py", re.escape(there), f"force_update_version=True, {there}"):
        shown = run(project, "--env", "prod", "--against", "HEAD", "--stack", "pool-public")
    assert "MAY REPLACE aws:eks/cluster:Cluster" in shown.stdout
    assert "the provider decides" in shown.stdout


def test_a_program_that_cannot_be_evaluated_fails_the_preview_by_name(project: Path) -> None:
    with changed(project, "stacks/config/Pulumi.pool-public.prod.yaml", "  tandem:cluster_name: tandem-public\n", ""):
        done = run(project, "--env", "prod", "--stack", "pool-public")
    assert done.returncode == 1
    assert "cluster_name has no value" in done.stdout


def test_a_violated_rule_fails_the_preview(project: Path) -> None:
    with changed(project, "stacks/config/Pulumi.traffic.prod.yaml", "tandem:protect: true", "tandem:protect: false"):
        done = run(project, "--env", "prod", "--stack", "traffic")
    assert done.returncode == 1
    assert "violation traffic.prod" in done.stdout


def test_a_revision_git_does_not_know_is_refused(project: Path) -> None:
    done = run(project, "--env", "prod", "--against", "no-such-revision")
    assert done.returncode == 1
    assert "revision 'no-such-revision' cannot be read" in done.stderr
