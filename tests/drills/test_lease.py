"""The lease against an API as the lab serves it: it stands or nothing is left, and it ends when all is undone."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from drills import access
from drills import lease as lease_module
from drills import undo as undo_module
from drills.actions.network_policy import CutSources
from drills.actions.scale import ScaleToZero
from drills.drill import DrillError, NotRun, until
from drills.lease import DOCUMENT, RELEASED, RENEWED, STATE, WHY, Lease, State, Undo
from drills.lease_job import DRILL_LABEL, job
from drills.settle import left_behind
from lab.kubernetes.api.kinds import CONFIG_MAP, DEPLOYMENT, JOB, POD
from tests.drills.site_api import NAMESPACE_NAME, SiteApi, kubeconfig, playing, serving_api

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def served() -> Iterator[SiteApi]:
    with serving_api() as api:
        yield api


@pytest.fixture
def api(served: SiteApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[SiteApi]:
    monkeypatch.setattr(lease_module, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(lease_module, "STAND_SECONDS", 5.0)
    monkeypatch.setattr(lease_module, "RELEASE_SECONDS", 5.0)
    yield served
    for name in served.jobs():
        served.inside(lambda store, name=name: store.delete(JOB, NAMESPACE_NAME, name))
    for name in served.maps():
        served.inside(lambda store, name=name: store.delete(CONFIG_MAP, NAMESPACE_NAME, name))
    for pod in served.inside(lambda store: store.list(POD, NAMESPACE_NAME)):
        name = pod["metadata"]["name"]
        served.inside(lambda store, name=name: store.delete(POD, NAMESPACE_NAME, name, grace_period_seconds=0))


def a_lease(api: SiteApi, seconds: float = 5.0, **given: object) -> Lease:
    return Lease(api.deployment, "private", "1", seconds, **given)  # type: ignore[arg-type]  # the tests' own


def left(api: SiteApi) -> tuple[list[str], list[str]]:
    return api.jobs(), list(api.maps())


async def undos(api: SiteApi) -> list[Undo]:
    action = ScaleToZero.of(api.deployment, "private")
    return [Undo(action, await action.prepare())]


async def test_it_stands_with_what_is_to_be_undone_and_is_taken_away_when_nothing_is_left(api: SiteApi) -> None:
    told: list[str] = []
    lease = a_lease(api, told=told.append, avoid_nodes=["n1"])
    with playing(api):
        await lease.stand(await undos(api))
        data = api.maps()["drill-1"]
        assert data[STATE] == State.STANDING
        assert int(data[RENEWED]) == 1, "it was renewed as soon as it stood"
        assert json.loads(data[DOCUMENT]) == {
            "seconds": 5.0,
            "undo": [
                {
                    "kind": "scale-to-zero",
                    "arguments": {"site": "private", "namespace": "tandem", "deployments": ["gateway", "triton"]},
                    "prior": {"gateway": 2, "triton": 3},
                }
            ],
        }
        job = api.inside(lambda store: store.get(JOB, NAMESPACE_NAME, "drill-1"))
        [term] = job["spec"]["template"]["spec"]["affinity"]["nodeAffinity"][
            "requiredDuringSchedulingIgnoredDuringExecution"
        ]["nodeSelectorTerms"]
        assert term == {"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n1"]}]}
        assert not lease.lost
        assert await lease.release() == State.CLEAN
    assert left(api) == ([], [])


async def test_a_job_that_never_stands_is_not_run_and_leaves_nothing(
    api: SiteApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "STAND_SECONDS", 0.2)
    with pytest.raises(NotRun, match="does not stand in private: after 0 s its Job has made no pod; nothing was touch"):
        await a_lease(api).stand([])
    assert left(api) == ([], [])


async def test_a_job_that_says_it_stands_and_does_not_run_is_not_run(
    api: SiteApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "STAND_SECONDS", 0.4)
    standing = asyncio.create_task(a_lease(api).stand([]))
    assert await until(lambda: "drill-1" in api.maps(), 30)
    api.say("drill-1", **{STATE: State.STANDING})
    with pytest.raises(NotRun):
        await standing
    assert left(api) == ([], [])


async def test_an_undo_that_could_not_undo_is_not_run_and_says_why(api: SiteApi) -> None:
    standing = asyncio.create_task(a_lease(api).stand([]))
    assert await until(lambda: "drill-1" in api.maps(), 30)
    api.say("drill-1", **{STATE: State.FAILED, WHY: "no key to the store"})
    with pytest.raises(NotRun, match="does not stand in private: failed: no key to the store; nothing was touched"):
        await standing
    assert left(api) == ([], [])


@pytest.mark.parametrize("secret", ["", "store-marker"])
def test_an_undo_opens_the_store_with_the_sites_secret_or_as_whom_its_pod_is(secret: str) -> None:
    from tests.drills.worlds import a_deployment

    deployment = a_deployment()
    serving = {site: replace(each, lease_secret_name=secret) for site, each in deployment.serving.items()}
    made = job(replace(deployment, serving=serving), "private", "1", "drill-1", "", ())
    [container] = made["spec"]["template"]["spec"]["containers"]
    refs = [each["valueFrom"]["secretKeyRef"] for each in container["env"] if "valueFrom" in each]
    # Not optional: a Secret that is not there has to be named before anything is touched.
    assert refs == ([{"name": secret, "key": key} for key in ("access_key", "secret_key")] if secret else [])


async def test_a_kubeconfig_that_hangs_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.drills.worlds import a_deployment

    hung = threading.Event()
    monkeypatch.setattr(lease_module, "cluster", lambda *_: hung.wait(60))
    monkeypatch.setattr(lease_module, "answered", partial(access.answered, seconds=0.1))
    began = time.monotonic()
    try:
        with pytest.raises(DrillError, match="private: TimeoutError"):
            await Lease(a_deployment(), "private", "1", 5.0).renew()
        assert time.monotonic() - began < 30
    finally:
        hung.set()


async def test_a_kubeconfig_nobody_can_use_is_not_run() -> None:
    from tests.drills.worlds import a_deployment

    deployment = a_deployment()
    pool = {site: replace(each, kubeconfig='{"kind": "Config"}') for site, each in deployment.pool.items()}
    with pytest.raises(NotRun, match="its kubeconfig cannot be used"):
        await Lease(replace(deployment, pool=pool), "private", "1", 5.0).stand([])


async def test_a_lease_ages_while_its_machine_sleeps(api: SiteApi, monkeypatch: pytest.MonkeyPatch) -> None:
    lease, now = a_lease(api, 60.0), lease_module.awake_or_not()
    assert not lease.lost
    monkeypatch.setattr(lease_module, "awake_or_not", lambda: now + 61.0)
    assert lease.lost


@pytest.mark.parametrize("state", [State.UNDOING, State.FAILED])
async def test_an_undo_that_is_at_work_takes_no_renewal(api: SiteApi, state: str) -> None:
    lease = a_lease(api, 60.0)
    with playing(api):
        await lease.stand([])
    api.say("drill-1", **{STATE: state})
    with pytest.raises(DrillError, match=f"too late: the undo there is {state}"):
        await lease.renew()


WAITING = {"name": "undo", "image": "a", "imageID": "", "ready": False, "restartCount": 0}


@pytest.mark.parametrize("reason", lease_module.HOPELESS)
async def test_a_pod_that_waits_for_what_never_comes_is_given_up_at_once(api: SiteApi, reason: str) -> None:
    state = {"state": {"waiting": {"reason": reason, "message": "no such thing"}}}
    api.pod("drill-1-x", {DRILL_LABEL: "1"}, {"phase": "Pending", "containerStatuses": [{**WAITING, **state}]})
    began = time.monotonic()
    with pytest.raises(NotRun, match=f"pod drill-1-x waits: no such thing .{reason}."):
        await a_lease(api).stand([])
    assert time.monotonic() - began < 20, "it did not wait to the end"
    assert left(api) == ([], [])


async def test_a_pod_that_only_starts_is_waited_for(api: SiteApi) -> None:
    state = {"state": {"waiting": {"reason": "ContainerCreating"}}}
    api.pod("drill-1-x", {DRILL_LABEL: "1"}, {"phase": "Pending", "containerStatuses": [{**WAITING, **state}]})
    standing = asyncio.create_task(a_lease(api).stand([]))
    await asyncio.sleep(0.3)
    assert not standing.done()
    with playing(api):
        await standing


async def test_a_pod_no_node_takes_is_given_up_after_a_while(api: SiteApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "UNSCHEDULABLE_SECONDS", 0.3)
    unfit = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes are available"}
    api.pod("drill-1-x", {DRILL_LABEL: "1"}, {"phase": "Pending", "conditions": [unfit]})
    began = time.monotonic()
    with pytest.raises(NotRun, match=r"0/2 nodes are available \(Unschedulable\)"):
        await a_lease(api).stand([])
    assert 0.3 <= time.monotonic() - began < 20
    assert left(api) == ([], [])


async def test_a_stand_that_is_cancelled_leaves_nothing(api: SiteApi) -> None:
    for pause in (0.0, 0.005, 0.02, 0.1):
        standing = asyncio.create_task(a_lease(api).stand([]))
        await asyncio.sleep(pause)
        standing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await standing
        assert left(api) == ([], [])


async def test_an_api_that_is_away_is_not_run() -> None:
    from tests.drills.worlds import a_deployment

    with pytest.raises(NotRun, match="nothing was touched"):
        await Lease(a_deployment(), "private", "1", 5.0).stand([])
    with pytest.raises(NotRun, match="cannot look for leases"):
        await left_behind(a_deployment(), "private")


async def test_it_is_renewed_while_it_is_kept_and_lost_when_it_is_not(api: SiteApi) -> None:
    lease = a_lease(api, 0.6)
    with playing(api):
        await lease.stand([])
        keeping = asyncio.create_task(lease.keep())
        assert await until(lambda: int(api.maps()["drill-1"][RENEWED]) > 6, 30), "every fifth of its term"
        assert not lease.lost
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        assert await until(lambda: lease.lost, 30)
    with pytest.raises(DrillError, match="too late"):
        await lease.renew()
    assert lease.lost, "what was lost stays lost, whatever the API takes"


async def test_a_renewal_no_job_waits_for_does_not_count(api: SiteApi) -> None:
    lease = a_lease(api, 60.0)
    with playing(api):
        await lease.stand([])
    api.say("drill-1", **{STATE: State.UNDONE})
    with pytest.raises(DrillError, match="too late: the undo there is undone"):
        await lease.renew()
    assert lease.lost


@pytest.mark.parametrize("ends", [State.FAILED, State.STANDING], ids=["failed", "still at work"])
async def test_an_undo_that_has_not_finished_is_not_taken_away(
    api: SiteApi, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    monkeypatch.setattr(lease_module, "RELEASE_SECONDS", 0.3)
    told: list[str] = []
    lease = a_lease(api, told=told.append)
    with playing(api, ends):
        await lease.stand([])
        assert await lease.release() == ends
    assert left(api) == (["drill-1"], ["drill-1"])
    assert told[-1] == f"drill-1 stays in private and goes on undoing: it is {ends}"


async def test_what_a_dead_drill_has_left_is_found_with_its_term(api: SiteApi) -> None:
    assert await left_behind(api.deployment, "private") == []
    with playing(api):
        await a_lease(api, 7.0).stand(await undos(api))
    [found] = await left_behind(api.deployment, "private")
    assert (found.name, found.seconds) == ("drill-1", 7.0)
    assert (await found.document())["undo"][0]["kind"] == "scale-to-zero"
    api.say("drill-1", **{DOCUMENT: "{}"})
    with pytest.raises(NotRun, match="is no lease"):
        await left_behind(api.deployment, "private")


# The program of the Job, as it runs in the site's pod.


def program(api: SiteApi) -> subprocess.Popen[str]:
    where = urlsplit(api.url)
    return subprocess.Popen(
        [sys.executable, "-m", "drills.undo"],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "LEASE": "drill-1",
            "NAMESPACE": NAMESPACE_NAME,
            "KUBECONFIG_JSON": kubeconfig("http://127.84.0.99:1"),
            "KUBERNETES_SERVICE_HOST": str(where.hostname),
            "KUBERNETES_SERVICE_PORT": str(where.port),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def scale(api: SiteApi, name: str) -> int:
    return int(api.inside(lambda store: store.get(DEPLOYMENT, NAMESPACE_NAME, name)["spec"]["replicas"]))


async def stood(api: SiteApi, seconds: float, *, cut: bool = False) -> tuple[subprocess.Popen[str], list[Undo], Lease]:
    """A lease whose Job is the real program."""
    lease, wanted = a_lease(api, seconds), await undos(api)
    if cut:
        action = CutSources.of(api.deployment, "private")
        wanted.append(Undo(action, await action.prepare()))
    standing = asyncio.create_task(lease.stand(wanted))
    assert await until(lambda: api.jobs() == ["drill-1"], 30)
    api.run_job("drill-1")
    process = program(api)
    try:
        await asyncio.wait_for(standing, 30)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return process, wanted, lease


async def test_a_drill_that_dies_is_undone_in_its_site(api: SiteApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "STAND_SECONDS", 20.0)
    process, wanted, _ = await stood(api, 2.0, cut=True)
    try:
        for undo in wanted:
            await undo.action.apply()
        died = time.monotonic()
        assert await until(lambda: (scale(api, "gateway"), scale(api, "triton")) == (2, 3), 2.0 + 10)
        assert api.maps()["drill-1"][STATE] == State.UNDOING
        said, _ = await asyncio.to_thread(process.communicate, timeout=30)
    finally:
        process.kill()
        process.wait(30)
    assert process.returncode == 0, said
    assert time.monotonic() - died >= undo_module.LATE_SECONDS, "it goes on looking for what was on its way"
    steps = [
        "standing: lease of 2 s; to undo: scale gateway and triton of private to zero; drop what anybody sends",
        "the lease has run out: nobody renewed it",
        "undone: drop what anybody sends to the gateways of private",
        "undone: scale gateway and triton of private to zero",
        "nothing of the drill is left",
    ]
    places = [said.find(step) for step in steps]
    assert -1 not in places, said
    assert places == sorted(places), "in this order"
    assert api.maps()["drill-1"][STATE] == State.UNDONE
    assert (scale(api, "gateway"), scale(api, "triton")) == (2, 3)
    for undo in wanted:
        assert await undo.action.residue(undo.prior) == []


async def test_an_undo_that_was_stopped_while_it_undid_never_stands_again(
    api: SiteApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "STAND_SECONDS", 20.0)
    process, wanted, _ = await stood(api, 60.0)
    process.kill()
    process.communicate()
    await wanted[0].action.apply()
    api.say("drill-1", **{STATE: State.UNDOING, RELEASED: "true"})
    process = program(api)
    try:
        said, _ = await asyncio.to_thread(process.communicate, timeout=30)
    finally:
        process.kill()
        process.wait(30)
    assert process.returncode == 0, said
    assert "standing" not in said
    assert scale(api, "gateway") == 2


async def test_a_drill_that_releases_its_undo_finds_it_clean(api: SiteApi, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STAND_SECONDS", "RELEASE_SECONDS"):
        monkeypatch.setattr(lease_module, name, 20.0)
    process, _, lease = await stood(api, 30.0)
    try:
        assert await lease.release() == State.CLEAN
        said, _ = await asyncio.to_thread(process.communicate, timeout=30)
    finally:
        process.kill()
        process.wait(30)
    assert process.returncode == 0, said
    assert "released by the drill" in said
    assert "undoing" not in said
    assert left(api) == ([], [])


async def test_what_a_released_drill_has_forgotten_is_undone_all_the_same(
    api: SiteApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STAND_SECONDS", "RELEASE_SECONDS"):
        monkeypatch.setattr(lease_module, name, 20.0)
    process, wanted, _ = await stood(api, 30.0)
    try:
        await wanted[0].action.apply()
        api.say("drill-1", **{RELEASED: "true"})
        said, _ = await asyncio.to_thread(process.communicate, timeout=30)
    finally:
        process.kill()
        process.wait(30)
    assert process.returncode == 0, said
    assert "undone: scale gateway and triton of private to zero" in said
    assert scale(api, "gateway") == 2
