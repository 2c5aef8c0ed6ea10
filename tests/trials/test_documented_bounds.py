"""The bounds that the documents name for the lab are those the drills compute out of the lab's settings."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from drills import measure
from drills.switchover import FLAP_SECONDS
from infra.checkers import PROBE_TIMEOUT_SECONDS
from stacks.contract import ServingOutputs, TrafficOutputs
from trials.line import ROOT


def settings(stack: str) -> SimpleNamespace:
    """The lab's settings of a stack, over the project's defaults."""
    declared = yaml.safe_load((ROOT / "Pulumi.yaml").read_text(encoding="utf-8"))["config"]
    own = yaml.safe_load((ROOT / f"stacks/config/Pulumi.{stack}.lab.yaml").read_text(encoding="utf-8"))["config"]
    values: dict[str, Any] = {key.removeprefix("tandem:"): entry.get("default") for key, entry in declared.items()}
    values |= {key.removeprefix("tandem:"): value for key, value in own.items()}
    return SimpleNamespace(**values)


def bounds() -> dict[str, float]:
    """Every bound by the name the documents give it."""
    declared = settings("traffic")
    declared.probe_timeout_seconds = PROBE_TIMEOUT_SECONDS
    declared.request_timeout_seconds = float(declared.request_timeout_seconds)
    traffic = cast("TrafficOutputs", declared)
    serving = cast("ServingOutputs", settings("serving-private"))
    ill = measure.illness_bound_seconds(traffic, serving)
    return {
        "detection": measure.detection_seconds(traffic),
        "recovery": measure.recovery_bound_seconds(traffic),
        "a golden result turns stale": measure.stale_seconds(serving),
        "recovery, slow site and failback": ill,
        "recovery, flapping site": ill + FLAP_SECONDS,
    }


def document(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", bounds())
def test_the_table_of_bounds_ends_in_what_is_computed(name: str) -> None:
    [row] = [line for line in document("drills.md").splitlines() if line.startswith(f"| {name} | ")]
    assert row.endswith(f"= {bounds()[name]:g} s |")


def test_the_list_of_drills_and_the_runbooks_name_the_same_figures() -> None:
    found = bounds()
    lost, ill = found["recovery"], found["recovery, slow site and failback"]
    drills = document("drills.md")
    assert f"| {lost:g} s; {ill:g} s slow, {found['recovery, flapping site']:g} s flapping |" in drills
    [failback] = [line for line in drills.splitlines() if line.startswith("| [failback]")]
    assert failback.endswith(f"| {ill:g} s |")
    switchover = " ".join(document("runbooks/switchover.md").split())
    assert f"request timeout + 1 s, {lost:g} s in the lab" in switchover
    assert f"request timeout + 1 s, {ill:g} s in the lab" in switchover
    assert f": {ill:g} s in the lab |" in document("runbooks/failback.md")
