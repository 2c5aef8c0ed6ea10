"""The store keeps Kubernetes' rules: versions, defaults, refusals, deletion, ownership, watches."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Network
from itertools import count
from typing import Any

import pytest

from lab.kubernetes.api import kinds
from lab.kubernetes.api.errors import (
    AlreadyExists,
    BadRequest,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    UnsupportedMediaType,
)
from lab.kubernetes.api.history import Event, Watch
from lab.kubernetes.api.patching import PatchType
from lab.kubernetes.api.store import Store

GPU = "nvidia.com/gpu"


@pytest.fixture
def store() -> Store:
    return Store(first_version=1, cluster_ips=(f"127.78.128.{n}" for n in count(1)))


def pod(name: str = "web", **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "registry.example/web:1", **spec.pop("container", {})}
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"containers": [container], **spec}}


def deployment(name: str = "web", **spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": name}}, "spec": pod(name)["spec"]}
    selector = {"matchLabels": {"app": name}}
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": selector, "template": template, **spec},
    }


def gpu_pod(name: str, amount: int) -> dict[str, Any]:
    return pod(name, container={"resources": {"limits": {GPU: amount}}})


async def events(watch: Watch, amount: int) -> list[Event]:
    async with asyncio.timeout(30):
        return [await anext(watch) for _ in range(amount)]


class TestVersions:
    def test_every_change_spends_one_version_and_no_change_spends_none(self, store: Store) -> None:
        first = store.create(kinds.DEPLOYMENT, deployment())
        assert int(first["metadata"]["resourceVersion"]) == store.resource_version
        again = store.update(kinds.DEPLOYMENT, first)
        assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        again["metadata"]["labels"] = {"a": "b"}
        after = store.update(kinds.DEPLOYMENT, again)
        assert int(after["metadata"]["resourceVersion"]) == int(first["metadata"]["resourceVersion"]) + 1

    def test_only_a_change_of_spec_counts_as_a_generation(self, store: Store) -> None:
        obj = store.create(kinds.DEPLOYMENT, deployment())
        assert obj["metadata"]["generation"] == 1
        obj["metadata"]["annotations"] = {"a": "b"}
        obj = store.update(kinds.DEPLOYMENT, obj)
        obj["status"] = {"replicas": 1}
        obj = store.update(kinds.DEPLOYMENT, obj, subresource="status")
        assert (obj["metadata"]["generation"], obj["status"]) == (1, {"replicas": 1})
        obj["spec"]["replicas"] = 2
        assert store.update(kinds.DEPLOYMENT, obj)["metadata"]["generation"] == 2

    def test_a_stale_version_or_another_uid_is_a_conflict(self, store: Store) -> None:
        old = store.create(kinds.CONFIG_MAP, {"metadata": {"name": "c"}, "data": {"a": "1"}})
        store.patch(kinds.CONFIG_MAP, "default", "c", {"data": {"a": "2"}}, PatchType.MERGE)
        with pytest.raises(Conflict, match="object has been modified"):
            store.update(kinds.CONFIG_MAP, old)
        with pytest.raises(Conflict, match="UID in precondition"):
            store.update(kinds.CONFIG_MAP, {"metadata": {"name": "c", "uid": "other"}})

    def test_status_and_spec_are_written_apart(self, store: Store) -> None:
        obj = store.create(kinds.DEPLOYMENT, {**deployment(), "status": {"replicas": 7}})
        assert obj["status"] == {}
        obj["status"], obj["spec"]["replicas"] = {"replicas": 3}, 3
        assert store.update(kinds.DEPLOYMENT, obj)["status"] == {}
        obj = store.get(kinds.DEPLOYMENT, "default", "web")
        obj["status"], obj["spec"]["replicas"] = {"replicas": 3}, 9
        done = store.update(kinds.DEPLOYMENT, obj, subresource="status")
        assert (done["status"]["replicas"], done["spec"]["replicas"]) == (3, 3)

    def test_what_is_returned_is_a_copy(self, store: Store) -> None:
        store.create(kinds.POD, pod())["spec"]["containers"].clear()
        store.list(kinds.POD)[0]["spec"]["containers"].clear()
        assert store.get(kinds.POD, "default", "web")["spec"]["containers"]

    def test_a_dry_run_changes_nothing(self, store: Store) -> None:
        before = store.resource_version
        assert store.create(kinds.POD, pod(), dry_run=True)["spec"]["restartPolicy"] == "Always"
        store.create(kinds.SERVICE, {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 1}]}}, dry_run=True)
        store.patch(
            kinds.NAMESPACE, None, "default", {"metadata": {"labels": {"a": "b"}}}, PatchType.MERGE, dry_run=True
        )
        store.delete(kinds.PRIORITY_CLASS, None, "system-node-critical", dry_run=True)
        assert store.resource_version == before


class TestDefaults:
    def test_of_a_pod(self, store: Store) -> None:
        probe = {"httpGet": {"path": "/livez", "port": 80}}
        ports = [{"containerPort": 80}]
        resources = {"limits": {"cpu": 1, GPU: 1}}
        made = store.create(
            kinds.POD,
            pod(container={"livenessProbe": probe, "ports": ports, "resources": resources}),
            field_manager="t",
        )
        spec, container = made["spec"], made["spec"]["containers"][0]
        assert (spec["restartPolicy"], spec["terminationGracePeriodSeconds"], spec["priority"]) == ("Always", 30, 0)
        assert container["imagePullPolicy"] == "IfNotPresent"
        assert container["livenessProbe"] == {
            "httpGet": {"path": "/livez", "port": 80, "scheme": "HTTP"},
            "periodSeconds": 10,
            "timeoutSeconds": 1,
            "successThreshold": 1,
            "failureThreshold": 3,
        }
        assert container["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
        assert container["resources"]["requests"] == {"cpu": "1", GPU: "1"}
        assert made["status"] == {"phase": "Pending", "qosClass": "Burstable"}

    @pytest.mark.parametrize(
        ("image", "policy"),
        [
            ("web", "Always"),
            ("web:latest", "Always"),
            ("web:1", "IfNotPresent"),
            ("host:5000/web", "Always"),
            (f"web@sha256:{'0' * 64}", "IfNotPresent"),
        ],
    )
    def test_of_the_pull_policy(self, store: Store, image: str, policy: str) -> None:
        made = store.create(kinds.POD, pod(container={"image": image}))
        assert made["spec"]["containers"][0]["imagePullPolicy"] == policy

    def test_of_a_deployment(self, store: Store) -> None:
        spec = store.create(kinds.DEPLOYMENT, deployment())["spec"]
        assert spec["strategy"] == {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
        }
        assert (spec["replicas"], spec["revisionHistoryLimit"], spec["progressDeadlineSeconds"]) == (1, 10, 600)

    def test_of_a_service_which_gets_an_address_and_keeps_it(self, store: Store) -> None:
        made = store.create(kinds.SERVICE, {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})
        assert made["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
        assert (made["spec"]["type"], made["spec"]["sessionAffinity"]) == ("ClusterIP", "None")
        assert made["spec"]["clusterIP"] == "127.78.128.1"
        put = store.update(kinds.SERVICE, {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 81}]}})
        assert put["spec"]["clusterIP"] == "127.78.128.1"
        with pytest.raises(Invalid, match="may not change once set"):
            store.patch(kinds.SERVICE, "default", "s", {"spec": {"clusterIP": "127.78.128.9"}}, PatchType.MERGE)
        headless = {"metadata": {"name": "h"}, "spec": {"clusterIP": "None", "ports": [{"port": 80}]}}
        assert store.create(kinds.SERVICE, headless)["spec"]["clusterIP"] == "None"

    @pytest.mark.parametrize("address", ["0.0.0.0", "127.78.0.1", "host"])
    def test_of_a_service_whose_address_has_to_be_of_the_cluster(self, address: str) -> None:
        store = Store(service_network=IPv4Network("127.78.128.0/18"))
        ports = [{"port": 80}]
        metadata = {"name": "web", "namespace": "default"}
        with pytest.raises(Invalid, match=r"range of valid IPs is 127.78.128.0/18"):
            store.create(kinds.SERVICE, {"metadata": metadata, "spec": {"ports": ports, "clusterIP": address}})
        made = store.create(kinds.SERVICE, {"metadata": metadata, "spec": {"ports": ports}})
        made["spec"]["clusterIP"] = address
        with pytest.raises(Invalid, match="range of valid IPs"):
            store.update(kinds.SERVICE, made)

    def test_of_a_job_which_gets_a_selector_of_its_own(self, store: Store) -> None:
        template = {"spec": {**pod()["spec"], "restartPolicy": "Never"}}
        made = store.create(kinds.JOB, {"metadata": {"name": "j"}, "spec": {"template": template}})
        labels = made["spec"]["template"]["metadata"]["labels"]
        assert made["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert (made["spec"]["backoffLimit"], made["spec"]["completions"], labels["job-name"]) == (6, 1, "j")

    def test_plain_text_of_a_secret_is_encoded(self, store: Store) -> None:
        made = store.create(kinds.SECRET, {"metadata": {"name": "s"}, "stringData": {"a": "b"}})
        assert made["data"] == {"a": "Yg=="}
        assert "stringData" not in made

    def test_of_a_priority_class(self, store: Store) -> None:
        store.create(kinds.PRIORITY_CLASS, {"metadata": {"name": "serving"}, "value": 1000})
        assert store.create(kinds.POD, pod(priorityClassName="serving"))["spec"]["priority"] == 1000
        with pytest.raises(Forbidden, match="no PriorityClass with name absent"):
            store.create(kinds.POD, pod("other", priorityClassName="absent"))


def _container(**changes: Any) -> dict[str, Any]:
    return pod(container=changes)


INVALID = {
    "a container without an image": (_container(image=""), "spec.containers[0].image"),
    "no container": (pod(containers=[]), "spec.containers"),
    "a mount of no volume": (_container(volumeMounts=[{"name": "no", "mountPath": "/x"}]), "volumeMounts[0].name"),
    "a name in capitals": ({**pod("Web")}, "metadata.name"),
    "a label with a space": (
        {**pod(), "metadata": {"name": "a", "labels": {"a": "b c"}}},
        "metadata.labels",
    ),
    "two containers of one name": (
        pod(containers=[{"name": "a", "image": "i"}, {"name": "a", "image": "i"}]),
        "spec.containers[1].name",
    ),
    "a probe without a handler": (_container(livenessProbe={"periodSeconds": 1}), "containers[0].livenessProbe"),
    "a probe with two handlers": (
        _container(livenessProbe={"httpGet": {"port": 80}, "tcpSocket": {"port": 80}}),
        "containers[0].livenessProbe.tcpSocket",
    ),
    "a probe of an unknown port": (_container(readinessProbe={"httpGet": {"port": "web"}}), "httpGet.port"),
    "a quantity that is none": (_container(resources={"limits": {"cpu": "two"}}), "resources.limits[cpu]"),
    "half a GPU": (_container(resources={"limits": {GPU: "500m"}}), f"resources.limits[{GPU}]"),
    "a GPU request without a limit": (_container(resources={"requests": {GPU: 1}}), "resources.limits"),
    "a variable with two sources": (
        _container(
            env=[
                {
                    "name": "A",
                    "valueFrom": {
                        "fieldRef": {"fieldPath": "metadata.name"},
                        "secretKeyRef": {"name": "s", "key": "k"},
                    },
                }
            ]
        ),
        "env[0].valueFrom",
    ),
    "a variable without a name": (_container(env=[{"value": "x"}]), "env[0].name"),
    "an unknown field path": (
        _container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.phase"}}}]),
        "fieldRef.fieldPath",
    ),
    "a volume with two sources": (
        pod(volumes=[{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]),
        "spec.volumes[0].hostPath",
    ),
    "a probe of an init container": (
        pod(initContainers=[{"name": "i", "image": "i", "readinessProbe": {"tcpSocket": {"port": 1}}}]),
        "spec.initContainers[0].readinessProbe",
    ),
    "a toleration that makes no sense": (pod(tolerations=[{"operator": "Equal"}]), "spec.tolerations[0].operator"),
    "an unknown restart policy": (pod(restartPolicy="Sometimes"), "spec.restartPolicy"),
}


@pytest.mark.parametrize(("manifest", "field"), INVALID.values(), ids=INVALID.keys())
def test_an_invalid_pod_is_refused_with_the_path_of_the_field(store: Store, manifest: Any, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        store.create(kinds.POD, manifest)
    status = refused.value.status()
    assert (status["code"], status["reason"]) == (422, "Invalid")
    assert any(field in cause["field"] for cause in status["details"]["causes"]), status["message"]


class TestRefusals:
    def test_a_selector_has_to_match_the_template_and_stays(self, store: Store) -> None:
        with pytest.raises(Invalid, match=r"spec.template.metadata.labels.*does not match"):
            store.create(kinds.DEPLOYMENT, deployment(selector={"matchLabels": {"app": "other"}}))
        with pytest.raises(Invalid, match=r"spec.selector: Required value"):
            store.create(kinds.DEPLOYMENT, {"metadata": {"name": "d"}, "spec": {"template": {}}})
        made = store.create(kinds.DEPLOYMENT, deployment())
        made["spec"]["selector"]["matchLabels"]["tier"] = made["spec"]["template"]["metadata"]["labels"]["tier"] = "x"
        with pytest.raises(Invalid, match=r"spec.selector.*immutable"):
            store.update(kinds.DEPLOYMENT, made)

    def test_a_rollout_that_cannot_move_is_refused(self, store: Store) -> None:
        strategy = {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}
        with pytest.raises(Invalid, match="may not be 0 when `maxSurge` is 0"):
            store.create(kinds.DEPLOYMENT, deployment(strategy=strategy))

    def test_a_pods_spec_does_not_change_but_in_a_few_fields(self, store: Store) -> None:
        made = store.create(kinds.POD, pod())
        made["spec"]["nodeName"] = "n1"
        made = store.update(kinds.POD, made)
        made["spec"]["containers"][0]["image"] = "registry.example/web:2"
        made = store.update(kinds.POD, made)
        made["spec"]["containers"][0]["args"] = ["x"]
        with pytest.raises(Invalid, match="changed: containers"):
            store.update(kinds.POD, made)

    def test_a_wrong_type_names_the_field(self, store: Store) -> None:
        with pytest.raises(BadRequest, match=r"spec.replicas: got 'three', want integer"):
            store.create(kinds.DEPLOYMENT, deployment(replicas="three"))

    def test_unknown_fields_are_pruned_and_told(self, store: Store) -> None:
        told: list[str] = []
        made = store.create(kinds.POD, pod(container={"imagee": "x"}), unknown=told.extend)
        assert told == ['unknown field "spec.containers[0].imagee"']
        assert "imagee" not in made["spec"]["containers"][0]

    def test_a_name_is_taken_once_and_a_namespace_has_to_be_there(self, store: Store) -> None:
        store.create(kinds.POD, pod())
        with pytest.raises(AlreadyExists, match='pods "web" already exists'):
            store.create(kinds.POD, pod())
        with pytest.raises(NotFound, match='namespaces "absent" not found'):
            store.create(kinds.POD, {**pod(), "metadata": {"name": "web", "namespace": "absent"}})

    def test_generated_names_are_free_ones(self, store: Store) -> None:
        made = {
            store.create(kinds.POD, {**pod(), "metadata": {"generateName": "web-"}})["metadata"]["name"]
            for _ in range(50)
        }
        assert len(made) == 50
        assert all(name.startswith("web-") and len(name) == 9 for name in made)

    def test_services_ports_are_checked(self, store: Store) -> None:
        ports = [{"port": 80}, {"port": 80, "name": "b"}]
        with pytest.raises(Invalid) as refused:
            store.create(kinds.SERVICE, {"metadata": {"name": "s"}, "spec": {"ports": ports}})
        assert [cause.field for cause in refused.value.causes] == ["spec.ports[0].name", "spec.ports[1]"]


class TestQuota:
    @pytest.fixture(autouse=True)
    def quota(self, store: Store) -> None:
        hard = {f"requests.{GPU}": 2, "pods": "3", "count/deployments.apps": "1"}
        store.create(kinds.RESOURCE_QUOTA, {"metadata": {"name": "gpus"}, "spec": {"hard": hard}})

    def used(self, store: Store) -> dict[str, str]:
        used: dict[str, str] = store.get(kinds.RESOURCE_QUOTA, "default", "gpus")["status"]["used"]
        return used

    def test_a_pod_beyond_it_is_forbidden_by_name(self, store: Store) -> None:
        store.create(kinds.POD, gpu_pod("a", 2))
        with pytest.raises(Forbidden) as refused:
            store.create(kinds.POD, gpu_pod("b", 1))
        assert refused.value.message == (
            f'pods "b" is forbidden: exceeded quota: gpus, requested: requests.{GPU}=1, used: requests.{GPU}=2,'
            f" limited: requests.{GPU}=2"
        )

    def test_what_is_used_is_counted_as_pods_come_finish_and_go(self, store: Store) -> None:
        store.create(kinds.POD, gpu_pod("a", 1))
        made = store.create(kinds.POD, gpu_pod("b", 1))
        assert self.used(store) == {f"requests.{GPU}": "2", "pods": "2", "count/deployments.apps": "0"}
        store.update(kinds.POD, {**made, "status": {"phase": "Succeeded"}}, subresource="status")
        assert self.used(store)[f"requests.{GPU}"] == "1"
        store.delete(kinds.POD, "default", "a")
        assert self.used(store) == {f"requests.{GPU}": "0", "pods": "0", "count/deployments.apps": "0"}

    def test_other_kinds_are_counted_too(self, store: Store) -> None:
        store.create(kinds.DEPLOYMENT, deployment("a"))
        with pytest.raises(Forbidden, match="exceeded quota: gpus"):
            store.create(kinds.DEPLOYMENT, deployment("b"))


class TestDeletion:
    def bound(self, store: Store, name: str = "web", **meta: Any) -> dict[str, Any]:
        manifest = pod(name, nodeName="n1")
        manifest["metadata"] |= meta
        return store.create(kinds.POD, manifest)

    def test_a_running_pod_waits_for_its_kubelet(self, store: Store) -> None:
        self.bound(store)
        marked = store.delete(kinds.POD, "default", "web")
        assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
        assert (
            store.delete(kinds.POD, "default", "web", grace_period_seconds=5)["metadata"]["deletionGracePeriodSeconds"]
            == 5
        )
        store.delete(kinds.POD, "default", "web", grace_period_seconds=0)
        with pytest.raises(NotFound):
            store.get(kinds.POD, "default", "web")

    def test_a_pod_without_a_node_and_a_finished_one_go_at_once(self, store: Store) -> None:
        store.create(kinds.POD, pod("pending"))
        done = self.bound(store, "done")
        store.update(kinds.POD, {**done, "status": {"phase": "Failed"}}, subresource="status")
        store.delete(kinds.POD, "default", "pending")
        store.delete(kinds.POD, "default", "done")
        assert store.list(kinds.POD) == []

    def test_finalizers_hold_an_object_until_the_last_is_taken_away(self, store: Store) -> None:
        store.create(kinds.CONFIG_MAP, {"metadata": {"name": "c", "finalizers": ["tandem.io/a", "tandem.io/b"]}})
        assert store.delete(kinds.CONFIG_MAP, "default", "c")["metadata"]["deletionTimestamp"]
        held = store.patch(
            kinds.CONFIG_MAP, "default", "c", {"metadata": {"finalizers": ["tandem.io/a"]}}, PatchType.MERGE
        )
        assert held["metadata"]["finalizers"] == ["tandem.io/a"]
        with pytest.raises(Invalid, match="no new finalizers"):
            store.patch(
                kinds.CONFIG_MAP, "default", "c", {"metadata": {"finalizers": ["tandem.io/c"]}}, PatchType.MERGE
            )
        store.patch(kinds.CONFIG_MAP, "default", "c", {"metadata": {"finalizers": None}}, PatchType.MERGE)
        assert store.list(kinds.CONFIG_MAP) == []

    def family(self, store: Store) -> dict[str, Any]:
        owner = store.create(kinds.REPLICA_SET, deployment("rs"))
        reference = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": owner["metadata"]["uid"]}
        for name in ("a", "b"):
            self.bound(store, name, ownerReferences=[{**reference, "controller": True, "blockOwnerDeletion": True}])
        return owner

    def phases(self, store: Store) -> list[bool]:
        return ["deletionTimestamp" in entry["metadata"] for entry in store.list(kinds.POD)]

    def test_dependents_follow_their_owner(self, store: Store) -> None:
        self.family(store)
        store.delete(kinds.REPLICA_SET, "default", "rs")
        assert self.phases(store) == [True, True]
        assert store.list(kinds.REPLICA_SET) == []

    def test_dependents_are_orphaned_when_asked(self, store: Store) -> None:
        self.family(store)
        store.delete(kinds.REPLICA_SET, "default", "rs", propagation="Orphan")
        assert self.phases(store) == [False, False]
        assert all("ownerReferences" not in entry["metadata"] for entry in store.list(kinds.POD))

    def test_in_the_foreground_the_owner_goes_last(self, store: Store) -> None:
        self.family(store)
        owner = store.delete(kinds.REPLICA_SET, "default", "rs", propagation="Foreground")
        assert owner["metadata"]["finalizers"] == ["foregroundDeletion"]
        assert self.phases(store) == [True, True]
        store.delete(kinds.POD, "default", "a", grace_period_seconds=0)
        assert store.list(kinds.REPLICA_SET)
        store.delete(kinds.POD, "default", "b", grace_period_seconds=0)
        assert store.list(kinds.REPLICA_SET) == []

    def test_an_object_made_for_an_owner_that_is_gone_goes_too(self, store: Store) -> None:
        owner = self.family(store)
        store.delete(kinds.REPLICA_SET, "default", "rs", propagation="Orphan")
        reference = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": owner["metadata"]["uid"]}
        late = {**pod("late"), "metadata": {"name": "late", "ownerReferences": [reference]}}
        assert store.create(kinds.POD, late)["metadata"]["name"] == "late"
        assert "late" not in {entry["metadata"]["name"] for entry in store.list(kinds.POD)}

    def test_a_namespace_empties_itself_and_takes_nothing_new(self, store: Store) -> None:
        store.create(kinds.NAMESPACE, {"metadata": {"name": "space"}})
        manifest = pod(nodeName="n1")
        manifest["metadata"]["namespace"] = "space"
        store.create(kinds.POD, manifest)
        store.create(kinds.CONFIG_MAP, {"metadata": {"name": "c", "namespace": "space"}})
        assert store.delete(kinds.NAMESPACE, None, "space")["status"]["phase"] == "Terminating"
        assert store.list(kinds.CONFIG_MAP) == []
        with pytest.raises(Forbidden, match="being terminated"):
            store.create(kinds.CONFIG_MAP, {"metadata": {"name": "d", "namespace": "space"}})
        store.delete(kinds.POD, "space", "web", grace_period_seconds=0)
        with pytest.raises(NotFound):
            store.get(kinds.NAMESPACE, None, "space")

    def test_preconditions_are_kept(self, store: Store) -> None:
        made = store.create(kinds.CONFIG_MAP, {"metadata": {"name": "c"}})
        with pytest.raises(Conflict, match="Precondition failed"):
            store.delete(kinds.CONFIG_MAP, "default", "c", preconditions={"uid": "other"})
        store.delete(kinds.CONFIG_MAP, "default", "c", preconditions={"uid": made["metadata"]["uid"]})


class TestSelectors:
    @pytest.mark.parametrize(
        ("selector", "names"),
        [
            ("tier=web", ["a"]),
            ("tier == web", ["a"]),
            ("tier!=web", ["b", "c"]),
            ("tier in (web, db)", ["a", "b"]),
            ("tier notin (web),tier", ["b"]),
            ("!tier", ["c"]),
            ("tier,tandem.io/site=private", ["a"]),
            ("", ["a", "b", "c"]),
        ],
    )
    def test_of_labels(self, store: Store, selector: str, names: list[str]) -> None:
        for name, labels in {"a": {"tier": "web", "tandem.io/site": "private"}, "b": {"tier": "db"}, "c": {}}.items():
            store.create(kinds.CONFIG_MAP, {"metadata": {"name": name, "labels": labels}})
        assert [entry["metadata"]["name"] for entry in store.list(kinds.CONFIG_MAP, "default", selector)] == names

    def test_of_fields(self, store: Store) -> None:
        store.create(kinds.POD, pod("a", nodeName="n1"))
        store.create(kinds.POD, pod("b"))

        def named(selector: str) -> list[str]:
            return [entry["metadata"]["name"] for entry in store.list(kinds.POD, field_selector=selector)]

        assert named("spec.nodeName=n1") == ["a"]
        assert named("spec.nodeName=,status.phase=Pending") == ["b"]
        assert named("metadata.name!=a") == ["b"]

    @pytest.mark.parametrize("selector", ["a in", "=b", "a=b=c", "a in (b", "a b"])
    def test_nonsense_is_a_bad_request(self, store: Store, selector: str) -> None:
        with pytest.raises(BadRequest, match="unable to parse"):
            store.list(kinds.POD, label_selector=selector)


class TestWatch:
    async def test_begins_with_what_is_there(self, store: Store) -> None:
        store.create(kinds.POD, pod("a"))
        watch = store.watch(kinds.POD)
        store.create(kinds.POD, pod("b"))
        store.delete(kinds.POD, "default", "a")
        seen = [(event.type, event.object["metadata"]["name"]) for event in await events(watch, 3)]
        assert seen == [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a")]

    async def test_from_a_version_gives_all_that_followed(self, store: Store) -> None:
        store.create(kinds.POD, pod("a"))
        since = store.resource_version
        store.create(kinds.POD, pod("b"))
        store.create(kinds.CONFIG_MAP, {"metadata": {"name": "c"}})
        store.delete(kinds.POD, "default", "b")
        seen = await events(store.watch(kinds.POD, since=since), 2)
        assert [event.type for event in seen] == ["ADDED", "DELETED"]
        versions = [int(event.object["metadata"]["resourceVersion"]) for event in seen]
        assert since < versions[0] < versions[1] == store.resource_version

    async def test_an_object_enters_and_leaves_a_selection(self, store: Store) -> None:
        watch = store.watch(kinds.CONFIG_MAP, "default", "on=yes")
        store.create(kinds.CONFIG_MAP, {"metadata": {"name": "c"}})
        for value in ("yes", "yes", "no"):
            labels = {"on": value, "n": str(store.resource_version)}
            store.patch(kinds.CONFIG_MAP, "default", "c", {"metadata": {"labels": labels}}, PatchType.MERGE)
        assert [event.type for event in await events(watch, 3)] == ["ADDED", "MODIFIED", "DELETED"]

    async def test_history_is_bounded_and_a_slow_watcher_is_cut_off(self) -> None:
        store = Store(first_version=1, history_limit=10)
        start, slow = store.resource_version, store.watch(kinds.CONFIG_MAP)
        for number in range(12):
            store.create(kinds.CONFIG_MAP, {"metadata": {"name": f"c{number}"}})
        with pytest.raises(Gone, match="too old resource version"):
            store.watch(kinds.CONFIG_MAP, since=start)
        with pytest.raises(Gone, match="fell behind"):
            await anext(slow)
        with pytest.raises(Gone, match="ahead"):
            store.watch(kinds.CONFIG_MAP, since=store.resource_version + 1)

    async def test_bookmarks_and_the_time_out(self, store: Store) -> None:
        watch = store.watch(kinds.POD, bookmarks=True, initial_events=True, timeout_seconds=0.1)
        async with asyncio.timeout(30):
            seen = [event async for event in watch]
        assert seen[0].object["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert {event.type for event in seen} == {"BOOKMARK"}
        assert seen[-1].object["metadata"]["resourceVersion"] == str(store.resource_version)

    async def test_a_closed_watch_ends(self, store: Store) -> None:
        watch = store.watch(kinds.POD)
        asyncio.get_running_loop().call_soon(watch.close)
        async with asyncio.timeout(30):
            assert [event async for event in watch] == []


def test_events_are_bounded(store: Store) -> None:
    involved = {"kind": "Pod", "name": "web", "namespace": "default"}
    for number in range(1010):
        store.create(kinds.EVENT, {"metadata": {"name": f"e{number}"}, "involvedObject": involved})
    kept = store.list(kinds.EVENT)
    assert len(kept) == 1000
    assert "e0" not in {entry["metadata"]["name"] for entry in kept}


class TestScale:
    def test_replicas_are_read_and_written_through_it(self, store: Store) -> None:
        store.create(kinds.DEPLOYMENT, deployment())
        done = store.patch(
            kinds.DEPLOYMENT, "default", "web", {"spec": {"replicas": 0}}, PatchType.MERGE, subresource="scale"
        )
        assert (done["kind"], done["spec"]["replicas"], done["status"]["selector"]) == ("Scale", 0, "app=web")
        assert store.get(kinds.DEPLOYMENT, "default", "web")["spec"]["replicas"] == 0
        with pytest.raises(Invalid, match=r"spec.replicas"):
            store.update(kinds.DEPLOYMENT, {**done, "spec": {"replicas": -1}}, subresource="scale")

    def test_of_a_custom_resource(self, store: Store) -> None:
        store.create(kinds.MACHINE_SET, {"metadata": {"name": "gpu"}, "spec": {"clusterName": "c", "replicas": 2}})
        store.patch(
            kinds.MACHINE_SET, "default", "gpu", {"spec": {"replicas": 5}}, PatchType.MERGE, subresource="scale"
        )
        made = store.get(kinds.MACHINE_SET, "default", "gpu")
        assert (made["spec"], made["metadata"]["generation"]) == ({"clusterName": "c", "replicas": 5}, 2)

    def test_a_custom_resource_takes_no_strategic_merge(self, store: Store) -> None:
        store.create(kinds.MACHINE_SET, {"metadata": {"name": "gpu"}})
        with pytest.raises(UnsupportedMediaType):
            store.patch(kinds.MACHINE_SET, "default", "gpu", {}, PatchType.STRATEGIC)
