"""Each action against an API as the lab serves it: made, put back exactly, and blind to what is somebody else's."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from drills.access import Cluster
from drills.actions import ACTIONS, again
from drills.actions.drain_mark import MarkDrained
from drills.actions.network_chaos import FlappingChaos, NetworkChaos, delay
from drills.actions.network_policy import CutSources
from drills.actions.pods import KillPods
from drills.actions.power import PowerOff
from drills.actions.refused_writes import RefuseWrites
from drills.actions.scale import ScaleToZero
from drills.drill import Action, DrillError, NotRun
from drills.probes import PodSilent, PodsReady, WritesAsked, WritesRefused
from lab.kubernetes.api.kinds import BARE_METAL_HOST, DEPLOYMENT, NETWORK_CHAOS, NETWORK_POLICY, POD
from lab.kubernetes.api.store import PatchType
from signals import marks
from signals.store import SignalStore
from stacks.contract import Deployment
from tests.drills.site_api import NAMESPACE_NAME, SiteApi, serving_api
from tests.drills.worlds import a_deployment

pytestmark = pytest.mark.live

PARTITION = {"action": "partition"}
READY = {"conditions": [{"type": "Ready", "status": "True"}], "phase": "Running"}


@pytest.fixture(scope="module")
def served() -> Iterator[SiteApi]:
    with serving_api() as api:
        yield api


@pytest.fixture
def api(served: SiteApi) -> Iterator[SiteApi]:
    """The one server, put back as it was whatever a test did."""
    before = {kind: ingress_of(served, kind) for kind in ("policy", "scales", "host")}
    yield served
    served.inside(lambda store: restore(store, before))


def ingress_of(api: SiteApi, what: str) -> Any:
    if what == "policy":
        return api.inside(lambda store: store.get(NETWORK_POLICY, NAMESPACE_NAME, "gateway")["spec"].get("ingress"))
    if what == "host":
        return api.inside(lambda store: store.get(BARE_METAL_HOST, "default", "host-1")["spec"]["online"])
    return scales(api)


def restore(store: Any, before: dict[str, Any]) -> None:
    put = [{"op": "add", "path": "/spec/ingress", "value": before["policy"]}]
    store.patch(NETWORK_POLICY, NAMESPACE_NAME, "gateway", put, PatchType.JSON)
    store.patch(BARE_METAL_HOST, "default", "host-1", {"spec": {"online": before["host"]}}, PatchType.MERGE)
    for name, count in before["scales"].items():
        store.patch(DEPLOYMENT, NAMESPACE_NAME, name, {"spec": {"replicas": count}}, PatchType.MERGE)
    for each in store.list(NETWORK_CHAOS, NAMESPACE_NAME):
        store.delete(NETWORK_CHAOS, NAMESPACE_NAME, each["metadata"]["name"])
    for each in store.list(POD, NAMESPACE_NAME):
        store.delete(POD, NAMESPACE_NAME, each["metadata"]["name"], grace_period_seconds=0)


def scales(api: SiteApi) -> dict[str, int]:
    found = api.inside(lambda store: store.list(DEPLOYMENT, NAMESPACE_NAME))
    return {each["metadata"]["name"]: each["spec"]["replicas"] for each in found}


def policy(api: SiteApi) -> Any:
    return ingress_of(api, "policy")


def write_policy(api: SiteApi, ingress: list[dict[str, Any]]) -> None:
    put = [{"op": "add", "path": "/spec/ingress", "value": ingress}]
    api.inside(lambda store: store.patch(NETWORK_POLICY, NAMESPACE_NAME, "gateway", put, PatchType.JSON))


def chaos(api: SiteApi) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.inside(lambda store: store.list(NETWORK_CHAOS, NAMESPACE_NAME))
    return found


async def undone_elsewhere(action: Action, prior: dict[str, Any], cluster: Cluster) -> None:
    """The same action, made again from what a journal or a lease keeps of it, puts back what the first one changed."""
    kept = json.loads(json.dumps({"arguments": action.arguments, "prior": prior}))
    other = again(action.kind, cluster, kept["arguments"])
    assert await other.residue(kept["prior"])
    await other.undo(kept["prior"])
    assert await other.residue(kept["prior"]) == []
    await other.undo(kept["prior"])


async def test_scales_go_to_zero_and_back_to_what_they_were(api: SiteApi) -> None:
    action = ScaleToZero.of(api.deployment, "private")
    prior = await action.prepare()
    assert prior == {"gateway": 2, "triton": 3}
    assert await action.residue(prior) == []
    await action.apply()
    assert scales(api) == {"gateway": 0, "triton": 0}
    await undone_elsewhere(action, prior, api.cluster)
    assert scales(api) == {"gateway": 2, "triton": 3}


async def test_a_scale_that_somebody_has_changed_meanwhile_is_left_alone(api: SiteApi) -> None:
    action = ScaleToZero.of(api.deployment, "private")
    prior = await action.prepare()
    await action.apply()
    api.inside(lambda s: s.patch(DEPLOYMENT, NAMESPACE_NAME, "gateway", {"spec": {"replicas": 5}}, PatchType.MERGE))
    await action.undo(prior)
    assert scales(api) == {"gateway": 5, "triton": 3}


async def test_nothing_is_scaled_down_where_nothing_runs(api: SiteApi) -> None:
    api.inside(lambda s: s.patch(DEPLOYMENT, NAMESPACE_NAME, "triton", {"spec": {"replicas": 0}}, PatchType.MERGE))
    with pytest.raises(DrillError, match="triton has no replicas"):
        await ScaleToZero.of(api.deployment, "private").prepare()


async def test_everybody_is_cut_off_and_let_in_again(api: SiteApi) -> None:
    before, action = policy(api), CutSources.of(api.deployment, "private")
    prior = await action.prepare()
    await action.apply()
    assert policy(api) == []
    await undone_elsewhere(action, prior, api.cluster)
    assert policy(api) == before


async def test_some_networks_are_cut_off_only_where_they_lie(api: SiteApi) -> None:
    before, cut = policy(api), ["127.30.1.16/29"]
    action = CutSources.of(api.deployment, "private", cut)
    prior = await action.prepare()
    await action.apply()
    blocks = [peer["ipBlock"] for peer in policy(api)[0]["from"]]
    assert blocks == [
        {"cidr": "127.0.0.0/8", "except": cut},
        {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]},
    ]
    await undone_elsewhere(action, prior, api.cluster)
    assert policy(api) == before


async def test_a_policy_that_somebody_has_changed_meanwhile_loses_only_what_was_ours(api: SiteApi) -> None:
    action = CutSources.of(api.deployment, "private", ["127.30.1.16/29"])
    prior = await action.prepare()
    await action.apply()
    theirs = policy(api)
    theirs[0]["from"][0]["ipBlock"]["except"] = ["127.30.1.16/29", "127.99.0.0/16"]
    theirs.append({"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]})
    write_policy(api, theirs)
    assert await action.residue(prior), "what is ours is still there"
    await action.undo(prior)
    assert policy(api)[0]["from"][0]["ipBlock"] == {"cidr": "127.0.0.0/8", "except": ["127.99.0.0/16"]}
    assert policy(api)[1] == {"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}
    assert await action.residue(prior) == []


async def test_a_policy_that_somebody_has_opened_meanwhile_is_left_alone(api: SiteApi) -> None:
    action = CutSources.of(api.deployment, "private")
    prior = await action.prepare()
    await action.apply()
    theirs = [{"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]
    write_policy(api, theirs)
    assert await action.residue(prior) == []
    await action.undo(prior)
    assert policy(api) == theirs


async def test_a_policy_that_changes_between_reading_and_writing_is_read_again(
    api: SiteApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    action = CutSources.of(api.deployment, "private", ["127.30.1.16/29"])
    prior = await action.prepare()
    theirs = [{"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]
    real, reads = CutSources._read, []

    async def read(self: CutSources) -> Any:
        found = await real(self)
        reads.append(found)
        if len(reads) == 1:
            write_policy(api, [*policy(api), *theirs])
        return found

    monkeypatch.setattr(CutSources, "_read", read)
    await action.apply()
    assert len(reads) == 2
    assert policy(api)[1:] == theirs, "what somebody else wrote meanwhile is there"
    await action.undo(prior)
    assert policy(api) == [*prior["ingress"], *theirs]

    async def stale(self: CutSources) -> Any:
        rules, _ = await real(self)
        return rules, "1"

    monkeypatch.setattr(CutSources, "_read", stale)
    with pytest.raises(DrillError, match=r"cannot change NetworkPolicy gateway .*422"):
        await action.apply()


async def test_where_nothing_is_let_in_there_is_nothing_to_cut(api: SiteApi) -> None:
    write_policy(api, [])
    with pytest.raises(DrillError, match="there is nothing to cut"):
        await CutSources.of(api.deployment, "private").prepare()
    write_policy(api, [{"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}])
    with pytest.raises(DrillError, match="there is nothing to cut"):
        await CutSources.of(api.deployment, "private", ["127.30.1.16/29"]).prepare()


@pytest.mark.parametrize("spec", [delay(10.0), PARTITION], ids=["delay", "partition"])
async def test_a_link_is_disturbed_by_an_object_that_also_expires(api: SiteApi, spec: dict[str, Any]) -> None:
    action = NetworkChaos.between(api.deployment, "private", spec)
    prior = await action.prepare()
    await action.apply()
    [made] = chaos(api)
    assert made["spec"]["duration"] == "900s"
    assert made["spec"]["action"] == spec["action"]
    assert made["spec"]["target"]["selector"]["labelSelectors"] == {"app.kubernetes.io/name": "triton"}
    await undone_elsewhere(action, prior, api.cluster)
    assert chaos(api) == []


async def test_chaos_of_another_drill_is_not_taken_for_ours(api: SiteApi) -> None:
    action = NetworkChaos.between(api.deployment, "private", PARTITION)
    await action.apply()
    with pytest.raises(DrillError, match=r"another drill.s; delete it first$"):
        await action.prepare()


async def test_flapping_toggles_and_leaves_nothing_in_flight(api: SiteApi) -> None:
    link = NetworkChaos.between(api.deployment, "private", PARTITION)
    action = FlappingChaos(link.cluster, "private", link.namespace, link.spec, 0.05)
    await action.apply()
    seen: set[int] = set()
    for _ in range(5):
        toggling = asyncio.create_task(action.sustain())
        for _ in range(12):
            seen.add(len(await asyncio.to_thread(chaos, api)))
            await asyncio.sleep(0.02)
        toggling.cancel()
        await asyncio.gather(toggling, return_exceptions=True)
        if not await action.residue({}):
            await action.apply()
    await action.undo({})
    await asyncio.sleep(0.1)
    assert seen == {0, 1}
    assert chaos(api) == [], "a change that was in flight when it was cancelled has landed before the undo"


async def test_flapping_ends_with_its_leave(api: SiteApi) -> None:
    link = NetworkChaos.between(api.deployment, "private", PARTITION)
    action = FlappingChaos(link.cluster, "private", link.namespace, link.spec, 0.02)
    assert set(action.arguments) == {"site", "namespace", "spec", "period_seconds"}

    async def refused() -> None:
        raise DrillError("the undo waits no more")

    action.leave.ask = refused
    await action.apply()
    with pytest.raises(DrillError, match="waits no more"):
        await asyncio.wait_for(action.sustain(), 30)
    assert chaos(api) == [], "it was ended and not begun again"


async def test_one_ready_pod_of_each_deployment_is_killed(api: SiteApi) -> None:
    for name in ("gateway", "triton"):
        labels = {"app.kubernetes.io/name": name}
        api.pod(f"{name}-a", labels, {**READY, "conditions": [{"type": "Ready", "status": "False"}]})
        api.pod(f"{name}-b", labels, READY)
    action = KillPods.of(api.deployment, "private")
    prior = await action.prepare()
    assert prior == {"pods": ["gateway-b", "triton-b"]}
    await action.apply()
    left = api.inside(lambda store: [each["metadata"]["name"] for each in store.list(POD, NAMESPACE_NAME)])
    assert left == ["gateway-a", "triton-a"]
    assert await action.residue(prior) == []
    with pytest.raises(DrillError, match="no pod of gateway is ready"):
        await action.apply()


def online(api: SiteApi) -> bool:
    return bool(ingress_of(api, "host"))


async def test_a_machine_goes_off_and_on_again(api: SiteApi) -> None:
    action = PowerOff.of(api.deployment, "private", "metal3://default/host-1/machine-1")
    prior = await action.prepare()
    await action.apply()
    assert not online(api)
    with pytest.raises(DrillError, match="off already"):
        await action.prepare()
    await undone_elsewhere(action, prior, api.cluster)
    assert online(api)


@pytest.mark.parametrize(
    ("site", "provider_id"),
    [
        ("public", "aws:///us-east-1a/i-1"),
        ("private", "aws:///us-east-1a/i-1"),
        ("private", "metal3://"),
        ("private", "metal3://elsewhere/host-1/machine-1"),
    ],
)
def test_a_machine_without_a_switch_of_ours_is_not_run(api: SiteApi, site: str, provider_id: str) -> None:
    with pytest.raises(NotRun):
        PowerOff.of(api.deployment, site, provider_id)


async def test_an_api_that_is_away_is_a_drills_error_and_no_other() -> None:
    gone = a_deployment()
    actions: list[Action] = [
        ScaleToZero.of(gone, "private"),
        CutSources.of(gone, "private"),
        NetworkChaos.between(gone, "private", PARTITION),
        KillPods.of(gone, "private"),
        PowerOff.of(gone, "private", "metal3://default/host-1/m"),
        RefuseWrites.of(gone, "private"),
        *MarkDrained.of(gone, "private"),
    ]
    assert {action.kind for action in actions} | {"flapping-chaos"} == set(ACTIONS)
    for action in actions:
        with pytest.raises(DrillError):
            await action.prepare()


def test_an_action_of_another_version_is_refused_with_those_there_are(api: SiteApi) -> None:
    with pytest.raises(DrillError, match=r"'melt' is not known; there are cut-sources, .*: use the same version"):
        again("melt", api.cluster, {})


async def test_a_pod_is_silent_only_when_the_api_says_so(api: SiteApi) -> None:
    probe = PodSilent(api.deployment, "private", "gateway-x", 8080)
    assert "404" in str(unheld := await probe.ask())
    assert not unheld.held, "a pod that is not there was not silenced by anybody"
    api.pod("gateway-x", {"app.kubernetes.io/name": "gateway"}, READY)
    seen = await probe.ask()
    assert seen.held == any(code in seen.detail for code in ("500", "502", "503", "504")), str(seen)
    away = PodSilent(a_deployment(), "private", "gateway-x", 8080)
    assert not (await away.ask()).held, "an API that is away tells nothing of a pod"


async def test_fewer_pods_means_fewer(api: SiteApi) -> None:
    deployment = replace(
        api.deployment,
        serving={
            site: replace(each, gateway_replicas=2, triton_replicas=3) for site, each in api.deployment.serving.items()
        },
    )

    def ready(gateways: int, tritons: int) -> None:
        for name, count in (("gateway", gateways), ("triton", tritons)):
            status = {"status": {"readyReplicas": count, "replicas": count}}
            api.inside(
                lambda s, name=name, status=status: s.patch(
                    DEPLOYMENT, NAMESPACE_NAME, name, status, PatchType.MERGE, subresource="status"
                )
            )

    for counts, all_of_them, fewer in (((2, 3), True, False), ((1, 3), False, True), ((3, 3), False, False)):
        ready(*counts)
        assert (await PodsReady(deployment, "private").ask()).held is all_of_them
        assert (await PodsReady(deployment, "private", all_of_them=False).ask()).held is fewer


# Drain marks, in a real object store.


@pytest.fixture(scope="module")
def stores() -> Iterator[Deployment]:
    server = ThreadedMotoServer(ip_address="127.84.0.3", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        deployment = a_deployment()
        s3 = boto3.client(
            "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="none", aws_secret_access_key="none"
        )
        storage = {}
        for site, each in deployment.storage.items():
            # All moto servers of a process share their buckets.
            s3.create_bucket(Bucket=f"signals-of-actions-{site}")
            storage[site] = replace(each, endpoint=url, signal_bucket=f"signals-of-actions-{site}")
        yield replace(deployment, storage=storage)
    finally:
        server.stop()


def marked(deployment: Deployment, *, shadow: bool = False) -> dict[str, str]:
    """Who has marked the private site as drained, by store."""
    found = marks.read(deployment, "private", shadow=shadow)
    return {each.store: each.mark.who for each in found if each.mark is not None}


async def test_a_site_is_marked_in_the_others_store_and_its_own_and_cleared(stores: Deployment) -> None:
    actions = MarkDrained.of(stores, "private")
    assert [action.site for action in actions] == ["public", "private"], "DNS leaves before connections are closed"
    priors = [await action.prepare() for action in actions]
    for action in actions:
        await action.apply()
    assert marked(stores) == {"public": "drill", "private": "drill"}
    for action, prior in zip(actions, priors, strict=True):
        await undone_elsewhere(action, prior, action.cluster)
    assert marked(stores) == {}


async def test_a_shadow_mark_is_not_a_mark(stores: Deployment) -> None:
    [action] = MarkDrained.of(stores, "private", shadow=True)
    prior = await action.prepare()
    await action.apply()
    assert marked(stores) == {}
    assert marked(stores, shadow=True) == {"public": "drill"}
    await action.undo(prior)
    assert marked(stores, shadow=True) == {}


async def test_a_mark_a_person_put_there_is_neither_overwritten_nor_taken_away(stores: Deployment) -> None:
    action = MarkDrained.of(stores, "private")[0]
    prior = await action.prepare()
    await action.apply()
    marks.mark(stores, "private", who="ann", why="maintenance")
    try:
        assert await action.residue(prior) == []
        await action.undo(prior)
        assert marked(stores)["public"] == "ann"
        with pytest.raises(DrillError, match="drained already"):
            await action.prepare()
        with pytest.raises(DrillError, match="somebody else wrote"):
            await action.apply()
    finally:
        marks.unmark(stores, "private")


async def test_an_undo_is_tried_beside_the_mark_and_leaves_nothing(stores: Deployment) -> None:
    action = MarkDrained.of(stores, "private")[0]
    await action.try_undo("drill-1")
    assert marked(stores) == {}
    assert SignalStore.of(stores.storage["public"]).get("drain/drill-1.tried") is None
    with pytest.raises(DrillError, match="no such bucket"):
        await replace(action, bucket="absent").try_undo("drill-1")


async def test_a_mark_that_is_lost_by_itself_leaves_nothing_to_undo(stores: Deployment) -> None:
    action = MarkDrained.of(stores, "private")[0]
    await action.apply()
    SignalStore.of(stores.storage["public"]).delete("drain/private")
    assert await action.residue({}) == []
    await action.undo({})


# The AWS API's writing half.


class Aws(BaseHTTPRequestHandler):
    """Answers as the lab's API does on its own paths, and to a dry run."""

    refusing = 0.0
    requests: list[dict[str, Any]] = []  # noqa: RUF012  one for the one server of a test
    dry_run = (412, "DryRunOperation")
    log_status = 200

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def tell(self) -> None:
        self.answer(200, json.dumps({"seconds": Aws.refusing}).encode())

    def do_GET(self) -> None:
        if "refuse-writes" in self.path:
            self.tell()
            return
        since = int(self.path.partition("since=")[2].partition("&")[0])
        found = {"latest": len(Aws.requests), "epoch": "e", "requests": Aws.requests[since:]}
        self.answer(Aws.log_status, json.dumps(found).encode())

    def do_PUT(self) -> None:
        Aws.refusing = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["seconds"]
        self.tell()

    def do_DELETE(self) -> None:
        Aws.refusing = 0.0
        self.tell()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, code = (503, "ServiceUnavailable") if Aws.refusing else Aws.dry_run
        body = f"<Response><Errors><Error><Code>{code}</Code><Message>m</Message></Error></Errors></Response>"
        self.answer(status, body.encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def aws() -> Iterator[str]:
    Aws.refusing, Aws.requests, Aws.dry_run, Aws.log_status = 0.0, [], (412, "DryRunOperation"), 200
    server = ThreadingHTTPServer(("127.84.0.4", 0), Aws)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.84.0.4:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join(30)
        server.server_close()


async def test_writes_are_refused_for_a_while_and_taken_again(aws: str) -> None:
    deployment = a_deployment(dns_api=aws)
    action, probe = RefuseWrites.of(deployment, "private"), WritesRefused(aws)
    prior = await action.prepare()
    assert not (await probe.ask()).held
    await action.apply()
    assert (await probe.ask()).held
    assert "900 s more" in (await action.residue(prior))[0]
    with pytest.raises(DrillError, match="somebody else's doing"):
        await action.prepare()
    await undone_elsewhere(action, prior, action.cluster)
    assert not (await probe.ask()).held


@pytest.mark.parametrize("answer", [(401, "AuthFailure"), (400, "InvalidParameterValue")])
async def test_an_api_that_refuses_us_does_not_refuse_writes(aws: str, answer: tuple[int, str]) -> None:
    Aws.dry_run = answer
    assert not (await WritesRefused(aws).ask()).held


async def test_an_api_that_is_away_proves_no_refusal() -> None:
    assert not (await WritesRefused("http://127.84.0.9:1").ask()).held


def test_nobody_can_break_an_api_that_is_not_a_rehearsals_own() -> None:
    for api in ("", "https://route53.amazonaws.com"):
        with pytest.raises(NotRun, match="nobody but AWS"):
            RefuseWrites.of(a_deployment(dns_api=api), "private")


async def test_writes_are_counted_from_the_beginning_of_the_count(aws: str) -> None:
    call = {"service": "route53", "action": "ChangeResourceRecordSets", "status": 503}
    Aws.requests = [call]
    meter = WritesAsked(aws)
    await meter.begin()
    assert (await meter.end())["aws_writes"] == []
    Aws.requests = [call, {**call, "status": 200}]
    assert (await meter.end())["aws_writes"] == ["route53 ChangeResourceRecordSets 200"]


async def test_a_log_that_cannot_be_read_counts_nothing(aws: str) -> None:
    Aws.log_status = 500
    with pytest.raises(NotRun, match="cannot be read"):
        await WritesAsked(aws).begin()
