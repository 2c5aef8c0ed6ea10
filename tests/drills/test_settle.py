"""What a dead drill has left is undone by its lease, or from here on request; nothing is forgotten."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drills import lease as lease_module
from drills import settle
from drills.actions.drain_mark import MarkDrained
from drills.actions.scale import ScaleToZero
from drills.drill import DrillError, NotRun
from drills.journal import Journal
from drills.lease import STATE, Lease, State, Undo
from lab.kubernetes.api.kinds import CONFIG_MAP, DEPLOYMENT, JOB
from lab.kubernetes.api.store import PatchType
from tests.drills.site_api import NAMESPACE_NAME, SiteApi, playing, serving_api
from tests.drills.worlds import a_deployment

pytestmark = pytest.mark.live


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[SiteApi]:
    monkeypatch.setattr(lease_module, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(settle, "MARGIN_SECONDS", 0.1)
    with serving_api() as served:
        # One site of the deployment is enough here: both are the same API.
        served.deployment.traffic.sites.pop("public")
        yield served


async def died(api: SiteApi, state: str, *, applied: bool = True) -> Undo:
    """A drill that died when its lease was in this state."""
    action = ScaleToZero.of(api.deployment, "private")
    undo = Undo(action, await action.prepare())
    lease = Lease(api.deployment, "private", "1", 0.2)
    with playing(api):
        await lease.stand([undo])
    if applied:
        await action.apply()
    api.say("drill-1", **{STATE: state})
    return undo


def scale(api: SiteApi) -> int:
    return int(api.inside(lambda store: store.get(DEPLOYMENT, NAMESPACE_NAME, "gateway")["spec"]["replicas"]))


def left(api: SiteApi) -> tuple[list[str], list[str]]:
    return api.jobs(), list(api.maps())


def test_what_is_put_back_from_here_opens_each_store_as_its_site_says_and_the_undo_there_by_its_pods_key() -> None:
    deployment = a_deployment()
    storage = {site: replace(each, credentials_profile=f"of-{site}") for site, each in deployment.storage.items()}
    deployment = replace(deployment, storage=storage)
    actions = MarkDrained.of(deployment, "private")
    written = [{"kind": each.kind, "arguments": each.arguments, "prior": {}} for each in actions]
    assert "of-" not in json.dumps(written), "a pod has no profile"
    made = [action for action, _ in settle.actions_of(deployment, {"undo": {"actions": written}})]
    assert [each.profile for each in actions] == ["of-public", "of-private"]
    assert [each.profile for each in made if isinstance(each, MarkDrained)] == ["of-private", "of-public"]


@pytest.mark.parametrize("state", [State.UNDONE, State.CLEAN])
async def test_a_lease_that_has_ended_well_is_told_and_taken_away(api: SiteApi, state: str) -> None:
    await died(api, state, applied=False)
    api.pod("drill-1-x", {"tandem.io/drill": "1"}, {"phase": "Succeeded"})
    said: list[str] = []
    await settle.leases(api.deployment, said.append, undo=False)
    assert said == [
        "drill-1 stands in private: its drill died; waiting for its undo",
        "undo in private: 12:00:00 nothing of the drill is left",
    ]
    assert left(api) == ([], [])


async def test_a_lease_that_never_stood_keeps_no_other_drill_away(api: SiteApi) -> None:
    await died(api, State.WAITING, applied=False)
    api.inside(lambda store: store.delete(JOB, NAMESPACE_NAME, "drill-1"))
    said: list[str] = []
    await settle.leases(api.deployment, said.append, undo=False)
    assert "drill-1 never stood, so its drill changed nothing" in said
    assert left(api) == ([], [])


@pytest.mark.parametrize("state", [State.FAILED, State.STANDING], ids=["failed", "silent"])
async def test_a_lease_that_has_not_undone_keeps_the_next_drill_out(api: SiteApi, state: str) -> None:
    await died(api, state)
    with pytest.raises(NotRun, match=r"it is .*; undo it from here: tandem drill undo --env lab"):
        await settle.leases(api.deployment, lambda _: None, undo=False)
    assert scale(api) == 0, "looking changes nothing"
    assert left(api) == (["drill-1"], ["drill-1"])


@pytest.mark.parametrize("state", [State.FAILED, State.STANDING], ids=["failed", "silent"])
async def test_what_a_lease_has_not_undone_is_undone_from_here_on_request(api: SiteApi, state: str) -> None:
    await died(api, state)
    said: list[str] = []
    await settle.leases(api.deployment, said.append, undo=True)
    assert "undone: scale gateway and triton of private to zero" in said
    assert scale(api) == 2
    assert left(api) == ([], [])


async def test_what_cannot_be_undone_from_here_either_stays_and_is_named(
    api: SiteApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    await died(api, State.FAILED)

    async def refused(*_: object) -> None:
        raise DrillError("the API refuses")

    monkeypatch.setattr(ScaleToZero, "undo", refused)
    with pytest.raises(NotRun, match="not undone from here either: gateway has 0 replicas, 2 before"):
        await settle.leases(api.deployment, lambda _: None, undo=True)
    assert left(api) == (["drill-1"], ["drill-1"])


async def test_with_nothing_left_behind_nobody_waits(api: SiteApi) -> None:
    said: list[str] = []
    await settle.leases(api.deployment, said.append, undo=False)
    assert said == []


def journal(folder: Path, undo: Undo) -> Journal:
    found = Journal(folder, "trial", "lab", {}, "Z")
    found.undo_stands([undo.document()])
    return found


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


async def test_a_journal_with_nothing_left_is_closed_as_aborted(api: SiteApi, tmp_path: Path) -> None:
    undo = await died(api, State.CLEAN, applied=False)
    path = journal(tmp_path, undo).path
    assert await settle.journals(api.deployment, tmp_path, lambda _: None, undo=False) == [path]
    assert (read(path)["status"], read(path)["undo"]["done"]) == ("aborted", True)
    assert await settle.journals(api.deployment, tmp_path, lambda _: None, undo=False) == []


async def test_a_journal_with_something_left_keeps_the_next_drill_out_until_it_is_undone(
    api: SiteApi, tmp_path: Path
) -> None:
    undo = await died(api, State.CLEAN)
    path = journal(tmp_path, undo).path
    with pytest.raises(NotRun, match=r"was not put back .*; undo it: tandem drill undo --env lab"):
        await settle.journals(api.deployment, tmp_path, lambda _: None, undo=False)
    assert not read(path)["undo"]["done"]
    said: list[str] = []
    assert await settle.journals(api.deployment, tmp_path, said.append, undo=True) == [path]
    assert said == [f"undone: scale gateway and triton of private to zero ({path.name})"]
    assert scale(api) == 2


async def test_an_undo_that_changes_nothing_closes_no_journal(
    api: SiteApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undo = await died(api, State.CLEAN)
    path = journal(tmp_path, undo).path

    async def nothing(*_: object) -> None:
        return None

    monkeypatch.setattr(ScaleToZero, "undo", nothing)
    with pytest.raises(NotRun, match="undone, and still there: gateway has 0 replicas"):
        await settle.journals(api.deployment, tmp_path, lambda _: None, undo=True)
    assert not read(path)["undo"]["done"]


async def test_a_change_somebody_made_since_is_theirs(api: SiteApi, tmp_path: Path) -> None:
    undo = await died(api, State.CLEAN)
    journal(tmp_path, undo)
    for name in ("gateway", "triton"):
        patch = {"spec": {"replicas": 7}}
        api.inside(
            lambda store, name=name, patch=patch: store.patch(DEPLOYMENT, NAMESPACE_NAME, name, patch, PatchType.MERGE)
        )
    assert len(await settle.journals(api.deployment, tmp_path, lambda _: None, undo=True)) == 1
    assert scale(api) == 7


async def test_a_lease_that_goes_while_it_is_waited_for_is_said_so(
    api: SiteApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    await died(api, State.STANDING)
    real = settle.left_behind

    async def found(*arguments: Any) -> list[Lease]:
        leases = await real(*arguments)
        api.inside(lambda store: store.delete(CONFIG_MAP, NAMESPACE_NAME, "drill-1"))
        return leases

    monkeypatch.setattr(settle, "left_behind", found)
    with pytest.raises(NotRun, match=r"drill-1 in private: .*404"):
        await settle.leases(api.deployment, lambda _: None, undo=False)
