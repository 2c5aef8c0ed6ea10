"""The kubernetes package against the lab's own API server, with a test in the place of controllers and kubelet."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf import empty_pb2
from pulumi.runtime.proto import provider_pb2
from test_providers_protocol import Made, Session, free_port, port, refusal

from lab.kubernetes.api.server import application, listen
from lab.kubernetes.api.store import Store
from lab.providers import values
from lab.providers.kubernetes import readiness

pytestmark = pytest.mark.live

__all__ = ["port"]

HOST = "127.82.0.2"
NAMESPACE, CONFIG_MAP = "kubernetes:core/v1:Namespace", "kubernetes:core/v1:ConfigMap"
DEPLOYMENT, SERVICE, SECRET = "kubernetes:apps/v1:Deployment", "kubernetes:core/v1:Service", "kubernetes:core/v1:Secret"
JOB, POOL = "kubernetes:batch/v1:Job", "kubernetes:metallb.io/v1beta1:IPAddressPool"


class Site:
    """An API server in a thread, and what a kubelet would write."""

    def __init__(self) -> None:
        self.port = free_port(HOST)
        self.url = f"http://{HOST}:{self.port}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._runner = self._run(self._start())
        self.client = httpx.Client(base_url=self.url, trust_env=False)

    async def _start(self) -> Any:
        return await listen(application(Store(), pod_logs=self._log), HOST, self.port)

    def _log(self, *_: object) -> bytes:
        return b"model digest mismatch\n"

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def stop(self) -> None:
        self.client.close()
        self._run(self._runner.cleanup())
        self._run(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    def get(self, path: str) -> dict[str, Any] | None:
        answer = self.client.get(path)
        return answer.json() if answer.status_code == 200 else None

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.client.post(path, json=body)
        assert answer.is_success, answer.text
        return dict(answer.json())

    def set_status(self, path: str, status: dict[str, Any]) -> None:
        headers = {"Content-Type": "application/merge-patch+json"}
        answer = self.client.patch(f"{path}/status", content=json.dumps({"status": status}), headers=headers)
        assert answer.is_success, answer.text

    @property
    def kubeconfig(self) -> str:
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "site",
                "contexts": [{"name": "site", "context": {"cluster": "site", "user": "site"}}],
                "clusters": [{"name": "site", "cluster": {"server": self.url}}],
                "users": [{"name": "site", "user": {}}],
            }
        )


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.stop()


@pytest.fixture
def session(port: int, site: Site) -> Iterator[Session]:
    session = Session(port, "kubernetes", {"kubeconfig": site.kubeconfig})
    yield session
    session.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same waits in a hundredth of the time."""
    monkeypatch.setattr(readiness, "DEADLINE_SECONDS", 1.5)
    monkeypatch.setattr(readiness, "FATAL_SECONDS", 0.3)
    monkeypatch.setattr(readiness, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(readiness, "PODS_SECONDS", 0.05)


def meta(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "namespace": "default", **more}


def config_map(session: Session, logical: str, **more: Any) -> Made:
    return session.up(CONFIG_MAP, logical, apiVersion="v1", kind="ConfigMap", data={"a": "1"}, **more)


def deployment(name: str, *, replicas: int = 1, **annotations: str) -> dict[str, Any]:
    labels = {"app": name}
    container = {
        "name": "triton",
        "image": "example.org/triton@sha256:" + "0" * 64,
        "readinessProbe": {"httpGet": {"path": "/v2/models/recommender/ready", "port": 8000}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta(name, **({"annotations": annotations} if annotations else {})),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def answer_soon(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Run an operation beside the test, as an engine does."""
    result: list[Any] = []

    def run() -> None:
        try:
            result.append(work())
        except Exception as error:  # noqa: BLE001 - the test looks at it
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, result


def until(found: Callable[[], Any], seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)
    return value


def broken_pod(site: Site, name: str, status: dict[str, Any]) -> None:
    """A pod of the Deployment `name`, in the state a kubelet would report."""
    owner = until(lambda: site.get(f"/apis/apps/v1/namespaces/default/deployments/{name}"))
    template = owner["spec"]["template"]
    labels = {**template["metadata"]["labels"], "pod-template-hash": "x"}
    sets = "/apis/apps/v1/namespaces/default/replicasets"
    replica_set = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": f"{name}-x", "labels": labels, "ownerReferences": [reference(owner)]},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {**template, "metadata": {"labels": labels}},
        },
    }
    made = site.post(sets, replica_set)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{name}-x-1", "labels": labels, "ownerReferences": [reference(made)]},
        "spec": {**template["spec"], "nodeName": "node-1"},
    }
    site.post("/api/v1/namespaces/default/pods", pod)
    site.set_status(f"/api/v1/namespaces/default/pods/{name}-x-1", status)


def reference(owner: dict[str, Any]) -> dict[str, Any]:
    names = {"name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"], "controller": True}
    return {"apiVersion": owner.get("apiVersion", "apps/v1"), "kind": owner["kind"], **names}


def waiting(reason: str, message: str, *, restarts: int = 0, last: dict[str, Any] | None = None) -> dict[str, Any]:
    status: dict[str, Any] = {
        "name": "triton",
        "image": "i",
        "imageID": "",
        "ready": False,
        "restartCount": restarts,
        "state": {"waiting": {"reason": reason, "message": message}},
    }
    if last:
        status["lastState"] = {"terminated": last}
    return {"phase": "Pending", "containerStatuses": [status]}


def test_an_object_goes_up_is_read_changed_and_removed(session: Session, site: Site) -> None:
    made = session.up(NAMESPACE, "ns", apiVersion="v1", kind="Namespace", metadata={"name": "tandem"})
    assert made.identity == "tandem"
    assert made.state["metadata"]["uid"]
    assert "annotations" not in made.state["metadata"], "the provider's own mark stays out of sight"
    assert session.diff(made, apiVersion="v1", kind="Namespace", metadata={"name": "tandem"}).changes == 1
    labelled = {"name": "tandem", "labels": {"a": "b"}}
    made = session.update(made, apiVersion="v1", kind="Namespace", metadata=labelled)
    live = site.get("/api/v1/namespaces/tandem")
    assert live is not None
    assert live["metadata"]["labels"]["a"] == "b"
    made = session.update(made, apiVersion="v1", kind="Namespace", metadata={"name": "tandem"})
    live = site.get("/api/v1/namespaces/tandem")
    assert live is not None
    assert "a" not in live["metadata"].get("labels", {}), "what the program no longer says goes"
    session.delete(made)
    assert site.get("/api/v1/namespaces/tandem") is None
    session.delete(made)
    assert session.read(made)[0] == ""


def test_a_kubeconfig_may_be_yaml(port: int, site: Site) -> None:
    text = f"clusters:\n- name: c\n  cluster:\n    server: {site.url}\n"
    session = Session(port, "kubernetes", {"kubeconfig": text})
    made = config_map(session, "yaml", metadata=meta("yaml"))
    session.delete(made)
    session.close()


def test_custom_resources_are_objects_like_others(session: Session) -> None:
    spec = {"addresses": ["127.10.0.10/32"]}
    made = session.up(
        POOL, "edge", apiVersion="metallb.io/v1beta1", kind="IPAddressPool", metadata=meta("edge"), spec=spec
    )
    assert made.state["spec"]["addresses"] == spec["addresses"]
    session.delete(made)


def test_a_kind_the_api_does_not_have_is_named(session: Session) -> None:
    with pytest.raises(grpc.RpcError) as error:
        session.check("kubernetes:example.org/v1:Thing", "t", {"apiVersion": "example.org/v1", "kind": "Thing"})
    assert "no kind Thing in example.org/v1" in refusal(error)


@pytest.mark.parametrize(
    "type_name", ["kubernetes:helm.sh/v4:Chart", "kubernetes:apps/v1:DeploymentPatch", "kubernetes:core/v1:PodList"]
)
def test_types_that_are_no_single_object_are_refused(session: Session, type_name: str) -> None:
    with pytest.raises(grpc.RpcError) as error:
        session.check(type_name, "t", {"apiVersion": "v1", "kind": "X"})
    assert "does not implement" in refusal(error)


def test_names_are_made_up_kept_and_made_anew_for_a_replacement(session: Session) -> None:
    made = config_map(session, "settings")
    name = made.inputs["metadata"]["name"]
    assert name.startswith("settings-")
    assert len(name) == len("settings-") + 8
    assert made.inputs["metadata"]["namespace"] == "default"
    answer = session.diff(made, apiVersion="v1", kind="ConfigMap", data={"a": "2"})
    assert list(answer.replaces) == ["data.a"]
    assert answer.deleteBeforeReplace, "as long as the name is the old one"
    fresh, _ = session.check(CONFIG_MAP, "settings", {"apiVersion": "v1", "kind": "ConfigMap"}, seed=b"other")
    assert fresh["metadata"]["name"] != name
    session.delete(made)


def test_a_lost_create_is_found_again_by_name(port: int, site: Site, session: Session) -> None:
    first = config_map(session, "lost", metadata=meta("lost"))
    engine = Session(port, "kubernetes", {"kubeconfig": site.kubeconfig})
    again = config_map(engine, "lost", metadata=meta("lost"))
    assert again.state["metadata"]["uid"] == first.state["metadata"]["uid"]
    engine.delete(again)
    engine.close()


def test_a_lost_create_under_a_made_up_name_is_swept(port: int, site: Site, session: Session) -> None:
    first = session.up(CONFIG_MAP, "swept", apiVersion="v1", kind="ConfigMap", seed=b"1")
    engine = Session(port, "kubernetes", {"kubeconfig": site.kubeconfig})
    again = engine.up(CONFIG_MAP, "swept", apiVersion="v1", kind="ConfigMap", seed=b"2")
    assert again.identity != first.identity
    assert session.read(first)[0] == ""
    engine.delete(again)
    engine.close()


def test_an_object_of_somebody_else_is_not_taken_over(session: Session, site: Site) -> None:
    site.post("/api/v1/namespaces/default/configmaps", {"metadata": {"name": "theirs"}, "data": {}})
    with pytest.raises(grpc.RpcError) as error:
        config_map(session, "mine", metadata=meta("theirs"))
    assert "ConfigMap default/theirs exists already" in refusal(error)


def test_a_bad_manifest_is_refused_in_the_preview(session: Session) -> None:
    broken = deployment("broken")
    broken["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = [{"name": "models", "mountPath": "/models"}]
    with pytest.raises(grpc.RpcError) as error:
        session.preview(DEPLOYMENT, "broken", **broken)
    told = refusal(error)
    assert "Deployment default/broken" in told
    assert "volumeMounts[0].name" in told


def test_a_preview_creates_nothing_and_leaves_the_status_open(session: Session, site: Site) -> None:
    state = session.preview(DEPLOYMENT, "planned", **deployment("planned"))
    assert state["status"] is values.UNKNOWN
    assert "uid" not in state["metadata"]
    assert site.get("/apis/apps/v1/namespaces/default/deployments/planned") is None


def test_a_preview_in_a_namespace_of_the_same_stack_passes(session: Session) -> None:
    inputs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "not-yet"}}
    assert session.preview(CONFIG_MAP, "c", **inputs)["metadata"]["namespace"] == "not-yet"


def test_an_api_that_does_not_answer_is_an_error_that_names_the_provider(port: int) -> None:
    server = f"http://127.82.0.9:{free_port('127.82.0.9')}"
    kubeconfig = json.dumps({"clusters": [{"name": "c", "cluster": {"server": server}}]})
    session = Session(port, "kubernetes", {"kubeconfig": kubeconfig})
    with pytest.raises(grpc.RpcError) as error:
        session.check(NAMESPACE, "n", {"apiVersion": "v1", "kind": "Namespace"})
    session.close()
    assert f"kubernetes provider for {server}" in refusal(error)
    assert "does not answer" in refusal(error)


def test_secret_data_is_always_secret(session: Session) -> None:
    inputs = {"apiVersion": "v1", "kind": "Secret", "metadata": meta("keys"), "stringData": {"key": "hunter2"}}
    request = provider_pb2.CreateRequest(urn=session.urn(SECRET, "keys"), properties=values.write(inputs))
    answer = session.stub.Create(request)
    properties = values.read(answer.properties)
    assert ("data",) in properties.secrets
    made = Made(SECRET, "keys", answer.id, inputs, properties.value)
    assert session.read(made)[2] == inputs, "reading finds no difference in what the API never shows"
    session.delete(made)


def test_an_update_waits_until_the_rollout_is_done(session: Session, site: Site) -> None:
    path = "/apis/apps/v1/namespaces/default/deployments/rolled"
    thread, result = answer_soon(lambda: session.up(DEPLOYMENT, "rolled", **deployment("rolled", replicas=2)))
    until(lambda: site.get(path))
    assert not result
    site.set_status(path, {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 1})
    time.sleep(0.2)
    assert not result, "one of two is not enough"
    site.set_status(path, {"availableReplicas": 2})
    thread.join(30)
    assert isinstance(result[0], Made), result[0]
    assert result[0].state["status"]["availableReplicas"] == 2
    session.delete(result[0])


def test_a_cancelled_engine_is_not_kept_waiting(session: Session, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "DEADLINE_SECONDS", 60.0)
    thread, result = answer_soon(lambda: session.up(DEPLOYMENT, "stopped", **deployment("stopped")))
    until(lambda: site.get("/apis/apps/v1/namespaces/default/deployments/stopped"))
    session.stub.Cancel(empty_pb2.Empty())
    thread.join(30)
    assert "Deployment default/stopped: the wait was cancelled" in str(result[0].details())


def test_an_annotation_skips_the_wait(session: Session) -> None:
    made = session.up(DEPLOYMENT, "skipped", **deployment("skipped", **{readiness.SKIP: "true"}))
    session.delete(made)


def test_an_annotation_sets_the_deadline(session: Session) -> None:
    with pytest.raises(grpc.RpcError) as error:
        session.up(DEPLOYMENT, "quick", **deployment("quick", **{readiness.TIMEOUT: "0.3"}))
    assert "Deployment default/quick: not ready after 0 s" in refusal(error)


def test_what_did_not_come_up_is_recorded_with_its_id(session: Session) -> None:
    with pytest.raises(grpc.RpcError) as error:
        session.up(DEPLOYMENT, "half", **deployment("half"))
    details = dict(error.value.trailing_metadata())["grpc-status-details-bin"]  # type: ignore[attr-defined]
    assert b"default/half" in details
    assert b"ErrorResourceInitFailed" in details


CAUSES = [
    pytest.param(
        waiting("ImagePullBackOff", "no image example.org/triton"),
        ["pod NAME-x-1: container triton is waiting: ImagePullBackOff: no image example.org/triton", "given up"],
        id="image",
    ),
    pytest.param(
        waiting("CreateContainerConfigError", 'secret "store" not found'),
        ['CreateContainerConfigError: secret "store" not found', "given up"],
        id="config",
    ),
    pytest.param(
        waiting("CrashLoopBackOff", "back-off", restarts=3, last={"exitCode": 1, "reason": "Error"}),
        ["CrashLoopBackOff", "it last ended: exit code 1 (Error): model digest mismatch", "given up"],
        id="crash",
    ),
    pytest.param(
        {
            "phase": "Pending",
            "conditions": [
                {"type": "PodScheduled", "status": "False", "message": "0/1 nodes: 1 Insufficient nvidia.com/gpu"}
            ],
        },
        ["pod NAME-x-1 is not scheduled: 0/1 nodes: 1 Insufficient nvidia.com/gpu", "not ready after"],
        id="unscheduled",
    ),
    pytest.param(
        {
            "phase": "Running",
            "containerStatuses": [
                {
                    "name": "triton",
                    "image": "i",
                    "imageID": "",
                    "ready": False,
                    "restartCount": 0,
                    "state": {"running": {}},
                }
            ],
        },
        [
            "container triton is not ready: readiness probe GET /v2/models/recommender/ready on port 8000",
            "not ready after",
        ],
        id="unready",
    ),
    pytest.param(
        {
            "phase": "Pending",
            "initContainerStatuses": [
                {
                    "name": "fetch",
                    "image": "i",
                    "imageID": "",
                    "ready": False,
                    "restartCount": 4,
                    "state": {
                        "terminated": {"exitCode": 1, "reason": "Error", "message": "sha256 differs: model.onnx"}
                    },
                }
            ],
        },
        ["init container fetch ended: exit code 1 (Error): sha256 differs: model.onnx", "given up"],
        id="init",
    ),
]


@pytest.mark.parametrize(("status", "told"), CAUSES)
def test_a_deployment_that_does_not_come_up_names_itself_and_the_cause(
    session: Session, site: Site, request: pytest.FixtureRequest, status: dict[str, Any], told: list[str]
) -> None:
    name = f"cause-{request.node.callspec.id}"
    thread, result = answer_soon(lambda: session.up(DEPLOYMENT, name, **deployment(name)))
    broken_pod(site, name, status)
    thread.join(30)
    assert isinstance(result[0], grpc.RpcError), result[0]
    message = result[0].details()  # type: ignore[attr-defined]
    assert f"Deployment default/{name}:" in message
    for part in told:
        assert part.replace("NAME", name) in message, message


def test_the_probes_last_answer_is_told(session: Session, site: Site) -> None:
    thread, result = answer_soon(lambda: session.up(DEPLOYMENT, "probed", **deployment("probed")))
    running = {
        "name": "triton",
        "image": "i",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"running": {}},
    }
    broken_pod(site, "probed", {"phase": "Running", "containerStatuses": [running]})
    event = {
        "metadata": {"name": "probed.1"},
        "involvedObject": {"kind": "Pod", "name": "probed-x-1", "namespace": "default"},
        "type": "Warning",
        "reason": "Unhealthy",
        "message": "Readiness probe failed: HTTP probe failed with statuscode: 404",
    }
    site.post("/api/v1/namespaces/default/events", event)
    thread.join(30)
    assert "statuscode: 404" in str(result[0].details())


def test_a_service_waits_for_pods_and_tells_how_not_to(session: Session) -> None:
    spec = {"selector": {"app": "nobody"}, "ports": [{"port": 80}]}
    with pytest.raises(grpc.RpcError) as error:
        session.up(SERVICE, "lonely", apiVersion="v1", kind="Service", metadata=meta("lonely"), spec=spec)
    assert "no ready pod matches its selector app=nobody" in refusal(error)
    assert "pulumi.com/skipAwait" in refusal(error)


def test_a_load_balancer_waits_for_its_address(session: Session, site: Site) -> None:
    spec = {"type": "LoadBalancer", "ports": [{"port": 80}]}
    path = "/api/v1/namespaces/default/services/edge"
    work = {"apiVersion": "v1", "kind": "Service", "metadata": meta("edge"), "spec": spec}
    thread, result = answer_soon(lambda: session.up(SERVICE, "edge", **work))
    until(lambda: site.get(path))
    assert not result
    site.set_status(path, {"loadBalancer": {"ingress": [{"ip": "127.10.0.10"}]}})
    thread.join(30)
    assert isinstance(result[0], Made), result[0]


def test_a_failed_job_is_an_error_at_once(session: Session, site: Site) -> None:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}
    work = {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta("once"), "spec": {"template": template}}
    thread, result = answer_soon(lambda: session.up(JOB, "once", **work))
    path = "/apis/batch/v1/namespaces/default/jobs/once"
    until(lambda: site.get(path))
    failed = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "too often"}
    site.set_status(path, {"conditions": [failed]})
    thread.join(30)
    assert "Job default/once: failed: BackoffLimitExceeded: too often" in str(result[0].details())


def test_a_deletion_that_something_holds_is_told(session: Session, site: Site) -> None:
    made = config_map(session, "held", metadata=meta("held", finalizers=["tandem.io/hold"]))
    with pytest.raises(grpc.RpcError) as error:
        session.delete(made)
    assert "finalizers tandem.io/hold hold it" in refusal(error)
    assert session.read(made)[0] == "", "what is on its way out is not there to be adopted"
