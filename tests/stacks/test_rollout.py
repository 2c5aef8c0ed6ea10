# ruff: noqa: ARG002 - fakes take what the protocol hands them
"""A new version comes in two steps, one site at a time; the settings of the first step are nobody's to keep."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from release import ReleaseError, accepted, edited, promote_site
from stacks import engine as engines
from stacks.contract import ServingOutputs, StackName
from stacks.rollout import ACCEPTED_KEY, DIGEST_KEY, between
from stacks.workspace import Workspace
from tests.declared import filled

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
PRIVATE, PUBLIC = StackName.parse("serving-private.lab"), StackName.parse("serving-public.lab")


class Recorder:
    """An engine that records what settings each run of a stack had, and serves them from then on."""

    name = "recorder"

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.runs: list[tuple[str, str, tuple[str, ...]]] = []
        self.recorded: dict[str, dict[str, Any]] = {}
        self.failing: set[str] = set()
        self.at_once = 0
        self.most_at_once = 0
        self._counting = threading.Lock()

    def up(self, stack: StackName, progress: engines.Progress) -> dict[str, int]:
        config = yaml.safe_load(self.workspace.merge(stack).read_text())["config"]
        digest = config[DIGEST_KEY]
        listed = tuple(sorted(config.get(ACCEPTED_KEY) or [digest]))
        with self._counting:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self.runs.append((str(stack), digest[7], tuple(each[7] for each in listed)))
        time.sleep(0.05)
        with self._counting:
            self.at_once -= 1
        if str(stack) in self.failing:
            raise engines.StackFailed(stack, "pods do not become ready")
        self.recorded[str(stack)] = {"model_digest": digest, "accepted_digests": list(listed)}
        return {"update": 1, "same": 10}

    def outputs(self, stack: StackName) -> dict[str, Any] | None:
        return self.recorded.get(str(stack))

    def preview(self, stack: StackName, progress: engines.Progress) -> dict[str, Any]:
        raise NotImplementedError

    def destroy(self, stack: StackName, progress: engines.Progress) -> dict[str, int]:
        raise NotImplementedError

    def interrupt(self) -> None:
        """Nothing runs."""


class Quiet:
    """A progress that keeps the messages."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def change(self, stack: StackName, op: str, kind: str, name: str) -> None:
        """Not of interest."""

    def message(self, stack: StackName, severity: str, text: str) -> None:
        self.said.append(text)

    def done(self, stack: StackName, counts: dict[str, int], seconds: float) -> None:
        """Not of interest."""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    folder = tmp_path / "stacks" / "config"
    folder.mkdir(parents=True)
    for stack in (PRIVATE, PUBLIC):
        (folder / f"Pulumi.{stack}.yaml").write_text("config:\n  tandem:kind: private\n")
    return Workspace("lab", tmp_path, tmp_path / "home")


@pytest.fixture
def engine(workspace: Workspace) -> Recorder:
    return Recorder(workspace)


def recorded(engine: Recorder, stack: StackName) -> ServingOutputs | None:
    known = engine.recorded.get(str(stack))
    if known is None:
        return None
    return filled(ServingOutputs,
        site=stack.site or "", namespace="tandem", triton_deployment="triton", triton_replicas=2,
        gateway_deployment="gateway", gateway_replicas=2, model_name="recommender", gateway_policy="gateway",
        concurrency_limit=8, golden_interval_seconds=2, hold_down_seconds=10, **known,
    )  # fmt: skip


def promote(engine: Recorder, digest: str, *stacks: StackName) -> None:
    for stack in stacks:
        promote_site(engine.workspace, stack.site or "", digest, recorded(engine, stack))


def up(engine: Recorder, *stacks: StackName) -> dict[str, dict[str, int]]:
    engine.runs.clear()
    return engines.up(engine.workspace, engine, Quiet(), [list(stacks)])


def test_a_first_creation_takes_one_step(engine: Recorder) -> None:
    promote(engine, A, PRIVATE)
    up(engine, PRIVATE)
    assert engine.runs == [("serving-private.lab", "a", ("a",))]


def test_a_new_version_is_accepted_before_it_is_served_and_then_nothing_more_changes(engine: Recorder) -> None:
    promote(engine, A, PRIVATE)
    up(engine, PRIVATE)
    promote(engine, B, PRIVATE)
    counts = up(engine, PRIVATE)
    assert engine.runs == [("serving-private.lab", "a", ("a", "b")), ("serving-private.lab", "b", ("a", "b"))]
    assert counts == {"serving-private.lab": {"update": 2, "same": 10}}
    up(engine, PRIVATE)
    assert engine.runs == [("serving-private.lab", "b", ("a", "b"))], "the settings are those of the last run"
    promote(engine, B, PRIVATE)
    up(engine, PRIVATE)
    assert engine.runs == [("serving-private.lab", "b", ("a", "b"))], "promoting what is served changes nothing"


def test_the_way_back_is_one_step_because_the_old_version_is_still_accepted(engine: Recorder) -> None:
    for digest in (A, B):
        promote(engine, digest, PRIVATE)
        up(engine, PRIVATE)
    promote(engine, A, PRIVATE)
    up(engine, PRIVATE)
    assert engine.runs == [("serving-private.lab", "a", ("a", "b"))]
    promote(engine, C, PRIVATE)
    up(engine, PRIVATE)
    assert engine.runs == [("serving-private.lab", "a", ("a", "c")), ("serving-private.lab", "c", ("a", "c"))], (
        "the one before the last is accepted no longer"
    )


def test_a_third_version_after_a_rollout_that_ended_half_way_keeps_accepting_both(engine: Recorder) -> None:
    promote(engine, A, PRIVATE)
    up(engine, PRIVATE)
    promote(engine, B, PRIVATE)
    first = between(engine.workspace.settings(PRIVATE), engine.recorded[str(PRIVATE)])
    assert first is not None
    engine.recorded[str(PRIVATE)] = {"model_digest": A, "accepted_digests": [A, B]}
    promote(engine, C, PRIVATE)
    up(engine, PRIVATE)
    assert engine.runs[0] == ("serving-private.lab", "a", ("a", "b", "c")), "pods of the half rollout still answer"
    assert engine.runs[1][1] == "c"


def test_a_digest_somebody_wrote_by_hand_without_a_list_is_rolled_out_in_two_steps_too(
    engine: Recorder, workspace: Workspace
) -> None:
    for digest in (A, B):
        (workspace.tracked / f"Pulumi.{PRIVATE}.yaml").write_text(f"config:\n  {DIGEST_KEY}: {digest}\n")
        up(engine, PRIVATE)
    assert engine.runs == [("serving-private.lab", "a", ("a", "b")), ("serving-private.lab", "b", ("b",))]


def test_sites_take_turns_and_after_a_failed_rollout_no_other_begins(engine: Recorder) -> None:
    promote(engine, A, PRIVATE, PUBLIC)
    up(engine, PRIVATE, PUBLIC)
    assert engine.most_at_once == 2, "where nothing is replaced both come up at once"
    engine.most_at_once = 0
    promote(engine, B, PRIVATE, PUBLIC)
    up(engine, PRIVATE, PUBLIC)
    assert engine.most_at_once == 1
    assert [run[0] for run in engine.runs] in (
        [str(PRIVATE)] * 2 + [str(PUBLIC)] * 2,
        [str(PUBLIC)] * 2 + [str(PRIVATE)] * 2,
    )
    promote(engine, C, PRIVATE, PUBLIC)
    engine.failing = {str(PRIVATE), str(PUBLIC)}
    with pytest.raises(engines.StackFailed) as failed:
        up(engine, PRIVATE, PUBLIC)
    assert len(engine.runs) == 1
    texts = [str(failed.value), *failed.value.__notes__]
    assert any("its rollout was not begun, because that of serving-" in text for text in texts)


def test_a_first_step_that_fails_leaves_the_settings_as_they_were(engine: Recorder, workspace: Workspace) -> None:
    promote(engine, A, PRIVATE)
    up(engine, PRIVATE)
    promote(engine, B, PRIVATE)
    before = workspace.settings(PRIVATE)
    engine.failing = {str(PRIVATE)}
    with pytest.raises(engines.StackFailed):
        up(engine, PRIVATE)
    assert workspace.settings(PRIVATE) == before
    assert yaml.safe_load(workspace.merge(PRIVATE).read_text())["config"][DIGEST_KEY] == B


@pytest.mark.parametrize(
    ("settings", "known", "expected"),
    [
        ({}, {}, None),
        ({DIGEST_KEY: A}, {}, None),
        ({DIGEST_KEY: A}, {"model_digest": A}, None),
        ({DIGEST_KEY: B}, {"model_digest": A, "accepted_digests": [A, B]}, None),
        ({DIGEST_KEY: B}, {"model_digest": A}, {DIGEST_KEY: A, ACCEPTED_KEY: [A, B]}),
        (
            {DIGEST_KEY: C, ACCEPTED_KEY: [C, B]},
            {"model_digest": B, "accepted_digests": [B, A]},
            {DIGEST_KEY: B, ACCEPTED_KEY: [B, C]},
        ),
    ],
    ids=["no version", "first creation", "same", "accepted already", "outputs of an older program", "listed"],
)
def test_the_first_of_two_steps(settings: dict[str, Any], known: dict[str, Any], expected: object) -> None:
    assert between(settings, known) == expected


TRACKED = """# settings of a site
config:
  tandem:kind: private
  # the version
  tandem:model_digest: {digest}  # promoted
{accepted}  tandem:backend: gpu
"""


@pytest.mark.parametrize(
    "standing",
    ["", f"  tandem:accepted_digests: [{A}]\n", f"  tandem:accepted_digests:\n    - {A}\n    - {B}\n",
     f"  tandem:accepted_digests:\n  - {A}\n"],
    ids=["none", "in one line", "indented", "not indented"],
)  # fmt: skip
def test_tracked_settings_keep_every_other_line(standing: str) -> None:
    text = edited(TRACKED.format(digest=A, accepted=standing), {DIGEST_KEY: B, ACCEPTED_KEY: [B, A]}, "file")
    assert yaml.safe_load(text)["config"] == {
        "tandem:kind": "private", DIGEST_KEY: B, ACCEPTED_KEY: [B, A], "tandem:backend": "gpu",
    }  # fmt: skip
    assert "# settings of a site\nconfig:\n  tandem:kind: private\n  # the version\n" in text
    again = edited(text, {DIGEST_KEY: B, ACCEPTED_KEY: [B, A]}, "file")
    assert again == text


def test_tracked_settings_without_the_version_are_refused() -> None:
    with pytest.raises(ReleaseError, match="file sets tandem:model_digest 0 times"):
        edited("config:\n  tandem:kind: private\n", {DIGEST_KEY: B, ACCEPTED_KEY: [B]}, "file")


def test_nothing_but_the_new_version_is_accepted_at_a_site_that_is_not_up() -> None:
    assert accepted(A, "", None) == [A]
