"""The official client and kr8s work against the lab's API server over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx
import kr8s
import kubernetes.dynamic
import pytest
import yaml
from kr8s import _async_utils
from kr8s.asyncio.objects import Deployment as AsyncDeployment
from kr8s.asyncio.objects import Pod as AsyncPod
from kr8s.objects import ConfigMap, Deployment, Pod, new_class
from kubernetes.client.exceptions import ApiException

from lab.kubernetes.api import kinds, streaming
from lab.kubernetes.api.server import application, listen
from lab.kubernetes.api.store import Store

pytestmark = pytest.mark.live

client: Any = kubernetes.client  # manifests are dicts here, and what comes back is asserted on, not typed
watch: Any = kubernetes.watch
dynamic: Any = kubernetes.dynamic

HOST = "127.78.0.1"
MANIFEST = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: main
        image: registry.example/web:1
        ports: [{containerPort: 80, name: http}]
        readinessProbe: {httpGet: {path: /healthz, port: http}}
"""


def deployment(**spec: Any) -> dict[str, Any]:
    manifest: dict[str, Any] = yaml.safe_load(MANIFEST)
    manifest["spec"] |= spec
    return manifest


def pod(name: str, **meta: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "main", "image": "registry.example/web:1"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **meta}, "spec": spec}


@dataclass
class Cluster:
    """An API server in a thread of its own."""

    url: str
    store: Store
    loop: asyncio.AbstractEventLoop
    api: Any

    def inside(self, action: Callable[[Store], Any]) -> Any:
        """What a controller would do, on the server's loop."""
        done: Future[Any] = Future()
        self.loop.call_soon_threadsafe(lambda: done.set_result(action(self.store)))
        return done.result(timeout=30)

    @property
    def core(self) -> Any:
        return client.CoreV1Api(self.api)

    @property
    def apps(self) -> Any:
        return client.AppsV1Api(self.api)


LOG = {"lines": 5}


def read_log(namespace: str, name: str, container: str | None, previous: bool, tail: int | None) -> bytes:
    title = f"{namespace}/{name}/{container}{' previous' if previous else ''}"
    lines = [f"{title} line {number}\n" for number in range(LOG["lines"])]
    return "".join(lines[-tail:] if tail else lines).encode()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    loop = asyncio.new_event_loop()
    store = Store(cluster_ips=(f"127.78.128.{number}" for number in count(1)))
    thread = threading.Thread(target=loop.run_forever, name="kubernetes-api", daemon=True)
    thread.start()
    runner = asyncio.run_coroutine_threadsafe(listen(application(store, pod_logs=read_log), HOST, 0), loop).result(5)
    url = f"http://{HOST}:{runner.addresses[0][1]}"
    configuration = client.Configuration(host=url)
    configuration.retries = False
    with client.ApiClient(configuration) as api:
        yield Cluster(url, store, loop, api)
        api.rest_client.pool_manager.clear()
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(timeout=30)
    assert not thread.is_alive()
    loop.close()


def refused(call: Callable[[], Any]) -> tuple[int, dict[str, Any]]:
    with pytest.raises(ApiException) as caught:
        call()
    body: dict[str, Any] = json.loads(caught.value.body or "")
    return caught.value.status, body


class TestOfficialClient:
    def test_discovery(self, cluster: Cluster) -> None:
        assert client.VersionApi(cluster.api).get_code().git_version == "v1.34.0"
        assert client.CoreApi(cluster.api).get_api_versions().versions == ["v1"]
        groups = {group.name for group in client.ApisApi(cluster.api).get_api_versions().groups}
        assert {"apps", "batch", "cluster.x-k8s.io", "metallb.io"} <= groups
        listed = {entry.name: entry for entry in cluster.apps.get_api_resources().resources}
        assert listed["deployments"].short_names == ["deploy"]
        assert listed["deployments/scale"].kind == "Scale"

    def test_create_get_list_and_replace(self, cluster: Cluster) -> None:
        made = cluster.apps.create_namespaced_deployment("default", deployment())
        assert made.metadata.uid
        assert made.spec.strategy.rolling_update.max_surge == "25%"
        got = cluster.apps.read_namespaced_deployment("web", "default")
        got.spec.replicas = 3
        replaced = cluster.apps.replace_namespaced_deployment("web", "default", got)
        assert (replaced.spec.replicas, replaced.metadata.generation) == (3, 2)
        status, body = refused(lambda: cluster.apps.replace_namespaced_deployment("web", "default", got))
        assert (status, body["reason"]) == (409, "Conflict")

    def test_selectors_and_pages(self, cluster: Cluster) -> None:
        for number in range(7):
            labels = {"even": str(number % 2 == 0).lower()}
            cluster.core.create_namespaced_pod("default", pod(f"p{number}", labels=labels))
        found = cluster.core.list_namespaced_pod("default", label_selector="even in (true)")
        assert [entry.metadata.name for entry in found.items] == ["p0", "p2", "p4", "p6"]
        found = cluster.core.list_pod_for_all_namespaces(field_selector="metadata.name=p3,status.phase=Pending")
        assert [entry.metadata.name for entry in found.items] == ["p3"]
        page, names = cluster.core.list_namespaced_pod("default", limit=3), []
        while True:
            names += [entry.metadata.name for entry in page.items]
            if not page.metadata._continue:
                break
            page = cluster.core.list_namespaced_pod("default", limit=3, _continue=page.metadata._continue)
        assert names == [f"p{number}" for number in range(7)]

    def test_all_kinds_of_patches(self, cluster: Cluster) -> None:
        cluster.apps.create_namespaced_deployment("default", deployment())
        patch = cluster.apps.patch_namespaced_deployment
        side = {"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "s:1"}]}}}}
        merged = patch("web", "default", side, _content_type="application/strategic-merge-patch+json")
        assert sorted(entry.name for entry in merged.spec.template.spec.containers) == ["main", "side"]
        merged = patch("web", "default", {"spec": {"replicas": 4}}, _content_type="application/merge-patch+json")
        assert merged.spec.replicas == 4
        operations = [{"op": "replace", "path": "/spec/replicas", "value": 5}]
        merged = patch("web", "default", operations, _content_type="application/json-patch+json")
        assert merged.spec.replicas == 5

    def test_server_side_apply(self, cluster: Cluster) -> None:
        def apply(manager: str, **spec: Any) -> Any:
            return cluster.apps.patch_namespaced_deployment(
                "web",
                "default",
                deployment(**spec),
                field_manager=manager,
                force=spec.get("paused"),
                _content_type="application/apply-patch+yaml",
            )

        assert apply("a").spec.replicas == 2
        status, body = refused(lambda: apply("b", replicas=9))
        assert (status, body["details"]["causes"][0]["reason"]) == (409, "FieldManagerConflict")
        assert apply("b", replicas=9, paused=True).spec.replicas == 9

    def test_scale_and_status(self, cluster: Cluster) -> None:
        cluster.apps.create_namespaced_deployment("default", deployment())
        scale = cluster.apps.read_namespaced_deployment_scale("web", "default")
        assert (scale.spec.replicas, scale.status.selector) == (2, "app=web")
        scale.spec.replicas = 0
        assert cluster.apps.replace_namespaced_deployment_scale("web", "default", scale).spec.replicas == 0
        cluster.apps.patch_namespaced_deployment_scale("web", "default", {"spec": {"replicas": 6}})
        done = cluster.apps.patch_namespaced_deployment_status("web", "default", {"status": {"replicas": 1}})
        assert (done.spec.replicas, done.status.replicas) == (6, 1)

    def test_watch_from_a_version(self, cluster: Cluster) -> None:
        listed = cluster.core.list_namespaced_pod("default")
        for name in ("a", "b"):
            cluster.core.create_namespaced_pod("default", pod(name))
        cluster.core.delete_namespaced_pod("a", "default")
        stream = watch.Watch().stream(
            cluster.core.list_namespaced_pod,
            "default",
            resource_version=listed.metadata.resource_version,
            timeout_seconds=1,
        )
        assert [(event["type"], event["object"].metadata.name) for event in stream] == [
            ("ADDED", "a"),
            ("ADDED", "b"),
            ("DELETED", "a"),
        ]

    def test_watching_forgotten_history_says_gone(self, cluster: Cluster) -> None:
        stream = watch.Watch().stream(
            cluster.core.list_namespaced_pod, "default", resource_version="7", timeout_seconds=5
        )
        with pytest.raises(ApiException) as caught:
            list(stream)
        assert caught.value.status == 410

    def test_graceful_deletion(self, cluster: Cluster) -> None:
        manifest = pod("web")
        manifest["spec"]["nodeName"] = "n1"
        cluster.core.create_namespaced_pod("default", manifest)
        marked = cluster.core.delete_namespaced_pod("web", "default", grace_period_seconds=7)
        assert marked.metadata.deletion_grace_period_seconds == 7
        assert cluster.core.read_namespaced_pod("web", "default").metadata.deletion_timestamp
        cluster.inside(lambda store: store.delete(kinds.POD, "default", "web", grace_period_seconds=0))
        assert refused(lambda: cluster.core.read_namespaced_pod("web", "default"))[0] == 404

    def test_deleting_others_and_many(self, cluster: Cluster) -> None:
        cluster.apps.create_namespaced_deployment("default", deployment())
        options = client.V1DeleteOptions(propagation_policy="Foreground")
        assert cluster.apps.delete_namespaced_deployment("web", "default", body=options)["status"] == "Success"
        for number in range(4):
            cluster.core.create_namespaced_config_map(
                "default", {"metadata": {"name": f"c{number}", "labels": {"n": str(number)}}}
            )
        cluster.core.delete_collection_namespaced_config_map("default", label_selector="n notin (1)")
        assert [entry.metadata.name for entry in cluster.core.list_namespaced_config_map("default").items] == ["c1"]

    def test_generated_names_dry_runs_and_eviction(self, cluster: Cluster) -> None:
        manifest = pod("")
        manifest["metadata"] = {"generateName": "web-"}
        made = cluster.core.create_namespaced_pod("default", manifest)
        assert made.metadata.name.startswith("web-")
        cluster.core.create_namespaced_pod("default", pod("dry"), dry_run="All")
        assert [entry.metadata.name for entry in cluster.core.list_namespaced_pod("default").items] == [
            made.metadata.name
        ]
        eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name=made.metadata.name))
        cluster.core.create_namespaced_pod_eviction(made.metadata.name, "default", eviction)
        assert cluster.core.list_namespaced_pod("default").items == []

    def test_eviction_respects_a_disruption_budget(self, cluster: Cluster) -> None:
        policy = client.PolicyV1Api(cluster.api)
        budget = {"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}}
        policy.create_namespaced_pod_disruption_budget("default", budget)
        cluster.core.create_namespaced_pod("default", pod("web", labels={"app": "web"}))
        ready = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
        cluster.core.patch_namespaced_pod_status("web", "default", ready)
        eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name="web"))
        status, body = refused(lambda: cluster.core.create_namespaced_pod_eviction("web", "default", eviction))
        assert (status, body["reason"]) == (429, "TooManyRequests")

    def test_quota(self, cluster: Cluster) -> None:
        quota = {"metadata": {"name": "gpus"}, "spec": {"hard": {"requests.nvidia.com/gpu": "1"}}}
        cluster.core.create_namespaced_resource_quota("default", quota)
        manifest = pod("a")
        manifest["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "1"}}
        cluster.core.create_namespaced_pod("default", manifest)
        manifest["metadata"]["name"] = "b"
        status, body = refused(lambda: cluster.core.create_namespaced_pod("default", manifest))
        assert (status, "exceeded quota: gpus" in body["message"]) == (403, True)
        used = cluster.core.read_namespaced_resource_quota("gpus", "default").status.used
        assert used == {"requests.nvidia.com/gpu": "1"}

    def test_an_invalid_manifest_names_the_field(self, cluster: Cluster) -> None:
        manifest = deployment()
        container = manifest["spec"]["template"]["spec"]["containers"][0]
        container["volumeMounts"] = [{"name": "absent", "mountPath": "/x"}]
        container["readinessProbe"]["httpGet"]["port"] = "htpp"
        status, body = refused(lambda: cluster.apps.create_namespaced_deployment("default", manifest))
        at = "spec.template.spec.containers[0]"
        assert status == 422
        assert {cause["field"] for cause in body["details"]["causes"]} == {
            f"{at}.volumeMounts[0].name",
            f"{at}.readinessProbe.httpGet.port",
        }

    def test_logs(self, cluster: Cluster) -> None:
        cluster.core.create_namespaced_pod("default", pod("web"))
        read = cluster.core.read_namespaced_pod_log
        assert refused(lambda: read("web", "default"))[1]["message"] == "pod web does not have a host assigned"
        binding = client.V1Binding(metadata=client.V1ObjectMeta(name="web"), target=client.V1ObjectReference(name="n1"))
        cluster.core.create_namespaced_pod_binding("web", "default", binding, _preload_content=False)
        assert read("web", "default", tail_lines=1) == "default/web/main line 4\n"
        assert read("web", "default", previous=True).startswith("default/web/main previous line 0")
        assert refused(lambda: read("web", "default", container="x"))[0] == 400

    def test_custom_resources(self, cluster: Cluster) -> None:
        custom = client.CustomObjectsApi(cluster.api)
        place = ("cluster.x-k8s.io", "v1beta1", "default", "machinesets")
        custom.create_namespaced_custom_object(
            *place, {"metadata": {"name": "gpu"}, "spec": {"replicas": 1, "clusterName": "c"}}
        )
        custom.patch_namespaced_custom_object_scale(*place, "gpu", {"spec": {"replicas": 3}})
        assert custom.get_namespaced_custom_object(*place, "gpu")["spec"] == {"replicas": 3, "clusterName": "c"}
        names = client.ApiextensionsV1Api(cluster.api).list_custom_resource_definition().items
        assert "machinesets.cluster.x-k8s.io" in {entry.metadata.name for entry in names}

    def test_the_dynamic_client_finds_every_kind(self, cluster: Cluster, tmp_path: Any) -> None:
        found = dynamic.DynamicClient(cluster.api, cache_file=str(tmp_path / "discovery.json"))
        for kind in kinds.KINDS:
            assert found.resources.get(api_version=kind.api_version, kind=kind.kind).name == kind.plural
        maps = found.resources.get(api_version="v1", kind="ConfigMap")
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1"}}
        maps.server_side_apply(body=config, namespace="default", name="c", field_manager="dynamic")
        assert maps.get(namespace="default", name="c").data.a == "1"

    def test_what_is_not_supported_is_refused_and_listed(self, cluster: Cluster) -> None:
        assert refused(lambda: cluster.apps.list_namespaced_stateful_set("default"))[0] == 404
        assert refused(lambda: cluster.core.connect_get_namespaced_service_proxy("web", "default"))[0] == 404
        for _ in range(2):
            refused(lambda: client.NetworkingV1Api(cluster.api).list_ingress_for_all_namespaces())
        listed = httpx.get(f"{cluster.url}/tandem/unsupported", timeout=30).json()["items"]
        assert {entry["path"]: entry["count"] for entry in listed} == {
            "/apis/apps/v1/namespaces/default/statefulsets": 1,
            "/api/v1/namespaces/default/services/web/proxy": 1,
            "/apis/networking.k8s.io/v1/ingresses": 2,
        }


class TestKr8s:
    """kr8s, asynchronously, in the test's own loop."""

    @pytest.fixture
    async def api(self, cluster: Cluster) -> AsyncIterator[Any]:
        api: Any = await kr8s.asyncio.api(url=cluster.url, namespace="default")
        yield api
        await api._session.aclose()  # kr8s has no way to close an API object

    @pytest.fixture
    def blocking_api(self, cluster: Cluster) -> Iterator[Any]:
        api: Any = kr8s.api(url=cluster.url, namespace="default")
        yield api
        portal: Any = _async_utils.Portal
        portal().call(api._session.aclose)

    async def test_create_get_scale_patch_and_delete(self, api: Any) -> None:
        made = await AsyncDeployment(deployment(), api=api)
        await made.create()
        await made.scale(0)
        await made.refresh()
        assert made.replicas == 0
        await made.patch({"spec": {"paused": True}})
        await made.label({"tier": "front"})
        found = [entry async for entry in api.get("deployments", label_selector={"tier": "front"})]
        assert [entry.name for entry in found] == ["web"]
        await made.delete()
        assert not await made.exists()

    async def test_watch(self, api: Any, cluster: Cluster) -> None:
        seen = []
        await (await AsyncPod(pod("a"), api=api)).create()
        async with asyncio.timeout(30), contextlib.aclosing(api.watch("pods", namespace="default")) as changes:
            async for kind, entry in changes:
                seen.append((kind, entry.name))
                if len(seen) == 1:
                    cluster.core.create_namespaced_pod("default", pod("b"))
                    cluster.core.delete_namespaced_pod("b", "default")
                if len(seen) == 3:
                    break
        assert seen == [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "b")]

    def test_the_synchronous_flavour_with_logs_and_custom_resources(self, cluster: Cluster, blocking_api: Any) -> None:
        api = blocking_api
        web = Pod(pod("web"), api=api)
        web.create()
        cluster.inside(
            lambda store: store.patch(
                kinds.POD, "default", "web", {"spec": {"nodeName": "n1"}}, "application/merge-patch+json"
            )
        )
        assert list(web.logs(tail_lines=2)) == ["default/web/main line 3", "default/web/main line 4"]
        machines = new_class("MachineSet", "cluster.x-k8s.io/v1beta1", namespaced=True, asyncio=False, scalable=True)
        machines({"metadata": {"name": "gpu"}, "spec": {"replicas": 1}}, api=api).create()
        machines.get("gpu", api=api).scale(2)
        assert machines.get("gpu", api=api).spec.replicas == 2
        ConfigMap({"metadata": {"name": "c"}, "data": {"a": "b"}}, api=api).create()
        assert [entry.data.a for entry in api.get("configmaps", "c")] == ["b"]
        with pytest.raises(kr8s.ServerError, match="already exists"):
            ConfigMap({"metadata": {"name": "c"}}, api=api).create()
        with pytest.raises(kr8s.NotFoundError):
            Deployment.get("absent", api=api, timeout=1)
        assert api.version()["gitVersion"] == "v1.34.0"


def test_a_followed_log_ends_with_its_pod(cluster: Cluster) -> None:
    manifest = pod("web")
    manifest["spec"]["nodeName"] = "n1"
    cluster.core.create_namespaced_pod("default", manifest)
    url = f"{cluster.url}/api/v1/namespaces/default/pods/web/log?follow=true"
    with httpx.stream("GET", url, timeout=30) as response:
        lines = response.iter_lines()
        assert next(lines) == "default/web/main line 0"
        cluster.inside(lambda store: store.delete(kinds.POD, "default", "web", grace_period_seconds=0))
        assert len(list(lines)) == 4


def test_a_followed_tail_repeats_no_line(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = pod("web")
    manifest["spec"]["nodeName"] = "n1"
    cluster.core.create_namespaced_pod("default", manifest)
    url = f"{cluster.url}/api/v1/namespaces/default/pods/web/log?follow=true&tailLines=2"
    with httpx.stream("GET", url, timeout=30) as response:
        lines = response.iter_lines()
        assert [next(lines)[-1], next(lines)[-1]] == ["3", "4"]
        monkeypatch.setitem(LOG, "lines", 6)
        assert next(lines) == "default/web/main line 5"
        cluster.inside(lambda store: store.delete(kinds.POD, "default", "web", grace_period_seconds=0))
        assert list(lines) == []


class TestPlainRequests:
    @pytest.fixture
    def http(self, cluster: Cluster) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=cluster.url, timeout=30) as http:
            yield http

    def test_unknown_fields_warn_or_fail_as_asked(self, http: httpx.Client) -> None:
        manifest = {"metadata": {"name": "c"}, "dataa": {}}
        path = "/api/v1/namespaces/default/configmaps"
        answer = http.post(path, json=manifest, params={"fieldValidation": "Strict"})
        assert (answer.status_code, answer.json()["reason"]) == (400, "BadRequest")
        assert 'unknown field "dataa"' in answer.json()["message"]
        answer = http.post(path, json=manifest)
        assert answer.headers["Warning"] == '299 - "unknown field \\"dataa\\""'

    @pytest.mark.parametrize(
        ("method", "path", "content", "headers", "code"),
        [
            ("POST", "/api/v1/namespaces/default/pods", b"{", {}, 400),
            ("POST", "/api/v1/namespaces/default/pods", b"[]", {}, 400),
            ("POST", "/api/v1/namespaces/default/pods", b'{"spec": NaN}', {}, 400),
            ("POST", "/api/v1/namespaces/default/pods", b"[" * 100_000, {}, 400),
            ("POST", "/api/v1/namespaces/default/pods", b'{"metadata": 3}', {}, 400),
            ("POST", "/api/v1/namespaces/default/pods", b"x" * 4_000_000, {}, 413),
            (
                "POST",
                "/api/v1/namespaces/default/pods",
                b"x",
                {"Content-Type": "application/vnd.kubernetes.protobuf"},
                415,
            ),
            ("POST", "/api/v1/pods", b"{}", {}, 405),
            ("PATCH", "/api/v1/namespaces/default", b"{}", {"Content-Type": "application/json"}, 415),
            ("PATCH", "/api/v1/namespaces/default", b"3", {"Content-Type": "application/merge-patch+json"}, 400),
            ("DELETE", "/api/v1/namespaces/default", b"", {}, 403),
            ("DELETE", "/api/v1/namespaces/absent?gracePeriodSeconds=x", b"", {}, 400),
            ("GET", "/api/v1/namespaces/default/secrets/absent", b"", {}, 404),
            ("GET", "/apis/tandem.example/v1/things", b"", {}, 404),
            ("GET", "/api/v1/pods?labelSelector=a+b", b"", {}, 400),
            ("GET", "/api/v1/pods?watch=1&labelSelector=a+b", b"", {}, 400),
            ("GET", "/api/v1/pods?limit=-1", b"", {}, 400),
            ("GET", "/api/v1/pods?continue=nonsense", b"", {}, 400),
            ("GET", "/api/v1/pods", b"", {"Accept": "application/vnd.kubernetes.protobuf"}, 406),
            ("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", b"{}", {}, 405),
        ],
    )
    def test_bad_requests_get_a_status_and_never_a_5xx(
        self, http: httpx.Client, method: str, path: str, content: bytes, headers: dict[str, str], code: int
    ) -> None:
        answer = http.request(method, path, content=content, headers=headers)
        assert answer.status_code == code, answer.text
        assert (answer.json()["kind"], answer.json()["code"]) == ("Status", code)

    def test_apply_answers_201_for_new_and_200_for_known(self, http: httpx.Client) -> None:
        def apply() -> int:
            return http.patch(
                "/apis/apps/v1/namespaces/default/deployments/web",
                params={"fieldManager": "t"},
                content=MANIFEST,
                headers={"Content-Type": "application/apply-patch+yaml"},
            ).status_code

        assert [apply(), apply()] == [201, 200]

    def test_bookmarks_tell_the_version(self, http: httpx.Client) -> None:
        query = {"watch": "true", "timeoutSeconds": "1", "sendInitialEvents": "true", "allowWatchBookmarks": "true"}
        lines = http.get("/api/v1/namespaces", params=query).text.splitlines()
        assert [line.split('"')[3] for line in lines] == ["ADDED", "ADDED", "BOOKMARK", "BOOKMARK"]

    def test_a_watcher_that_does_not_read_is_cut_off(self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(streaming, "WRITE_SECONDS", 0.2)
        with httpx.stream("GET", f"{cluster.url}/api/v1/configmaps?watch=true", timeout=30) as response:
            config = {"metadata": {"generateName": "c-"}, "data": {"text": "x" * 500_000}}
            for _ in range(40):
                cluster.inside(lambda store: store.create(kinds.CONFIG_MAP, config))
            deadline = time.monotonic() + 30
            while cluster.inside(lambda store: len(store.table.history(kinds.CONFIG_MAP).watches)):
                assert time.monotonic() < deadline, "the watch is still there"
                time.sleep(0.05)
            with pytest.raises(httpx.TransportError):
                list(response.iter_lines())

    def test_the_server_stops_while_somebody_watches(self, cluster: Cluster) -> None:
        runner = asyncio.run_coroutine_threadsafe(listen(application(cluster.store), HOST, 0), cluster.loop).result(30)
        with httpx.stream(
            "GET", f"http://{HOST}:{runner.addresses[0][1]}/api/v1/pods?watch=true", timeout=10
        ) as response:
            assert response.status_code == 200
            begun = time.monotonic()
            asyncio.run_coroutine_threadsafe(runner.cleanup(), cluster.loop).result(30)
            assert list(response.iter_lines()) == []
        assert time.monotonic() - begun < 20, "nobody is waited for"
