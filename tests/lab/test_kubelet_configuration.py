"""The path rule, the environment and the volumes of a container."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from lab.kubernetes import probes, run, volumes
from lab.kubernetes.environment import ConfigError, EnvironmentBuilder, Placement, expand, service_links
from lab.kubernetes.volumes import Mounts, VolumeError, VolumeMaker, shared_memory_of

PLACEMENT = Placement("127.79.64.7", "127.79.1.1", {"cpu": "8", "memory": "32Gi"})


@dataclass
class Cluster:
    """What the API would answer."""

    config_maps: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    secrets: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    known_services: list[Mapping[str, Any]] = field(default_factory=list)

    def config_map(self, _namespace: str, name: str) -> Mapping[str, Any] | None:
        return self.config_maps.get(name)

    def secret(self, _namespace: str, name: str) -> Mapping[str, Any] | None:
        return self.secrets.get(name)

    def services(self, _namespace: str) -> list[Mapping[str, Any]]:
        return self.known_services

    def api_server(self) -> tuple[str, int]:
        return "127.79.0.1", 6443


def pod(**spec: Any) -> dict[str, Any]:
    metadata = {"name": "p", "namespace": "n", "uid": "u", "labels": {"app": "a"}, "annotations": {"k/x": "y"}}
    return {"metadata": metadata, "spec": {"nodeName": "node-1", "containers": [], **spec}}


def built(container: dict[str, Any], cluster: Cluster | None = None, **spec: Any) -> dict[str, str]:
    return EnvironmentBuilder(pod(**spec), PLACEMENT, cluster or Cluster()).build(container)


@pytest.mark.parametrize(
    ("text", "translated"),
    [
        ("/models", "POD/m"),
        ("/models/repository", "POD/m/repository"),
        ("--model-repository=/models/repository", "--model-repository=POD/m/repository"),
        ("a=/models,b=/models/x", "a=POD/m,b=POD/m/x"),
        ("/models:/models/deep/y", "POD/m:POD/d/y"),
        ("cp /models/x /models/deep", "cp POD/m/x POD/d"),
        ("/modelsx", "/modelsx"),
        ("/other/models", "/other/models"),
        ("http://host/models", "http://host/models"),
        ("'/models'", "'/models'"),
        ("/unmounted/x", "/unmounted/x"),
        (f"{volumes.SHARED_MEMORY}/x", f"{volumes.SHARED_MEMORY}/x"),
    ],
)
def test_a_mount_path_is_translated_at_path_boundaries_only(tmp_path: Path, text: str, translated: str) -> None:
    mounts = [("m", "/models/"), ("d", "/models/deep"), ("s", str(volumes.SHARED_MEMORY))]
    container = {"name": "c", "volumeMounts": [{"name": name, "mountPath": path} for name, path in mounts]}
    found = Mounts(container, {name: tmp_path / name for name, _ in mounts}).translate(text)
    assert found.replace(str(tmp_path), "POD") == translated


def test_a_sub_path_is_a_folder_below_its_volume_and_never_outside(tmp_path: Path) -> None:
    def mounts(sub_path: str) -> Mounts:
        return Mounts(
            {"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/x", "subPath": sub_path}]},
            {"v": tmp_path / "v"},
        )

    assert mounts("a/b").translate("/x/c") == f"{tmp_path}/v/a/b/c"
    assert (tmp_path / "v" / "a" / "b").is_dir()
    with pytest.raises(VolumeError, match="leaves its volume"):
        mounts("../other")


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)-$(A)", "1-1"),
        ("$(UNKNOWN)", "$(UNKNOWN)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A $(A", "$A $(A"),
    ],
)
def test_dollar_names_expand_as_kubernetes_expands_them(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1"}) == expanded


def test_service_links_name_host_port_and_every_named_port() -> None:
    ports = [{"name": "grpc", "port": 8001}, {"name": "http-api", "port": 8000}]
    headless = {"metadata": {"name": "h"}, "spec": {"clusterIP": "None", "ports": ports}}
    links = service_links(
        [{"metadata": {"name": "my-triton"}, "spec": {"clusterIP": "127.79.128.1", "ports": ports}}, headless]
    )
    assert links["MY_TRITON_SERVICE_HOST"] == "127.79.128.1"
    assert links["MY_TRITON_SERVICE_PORT"] == links["MY_TRITON_SERVICE_PORT_GRPC"] == "8001"
    assert links["MY_TRITON_SERVICE_PORT_HTTP_API"] == "8000"
    assert links["MY_TRITON_PORT_8001_TCP"] == "tcp://127.79.128.1:8001"
    assert not any(name.startswith("H_") for name in links)


def test_an_env_entry_may_use_service_links_and_the_entries_before_it() -> None:
    service = {"metadata": {"name": "triton"}, "spec": {"clusterIP": "127.79.128.9", "ports": [{"port": 8001}]}}
    entries = [
        {"name": "FIRST", "value": "$(TRITON_SERVICE_HOST):$(LATER)"},
        {"name": "LATER", "value": "x"},
        {"name": "SECOND", "value": "$(FIRST)"},
    ]
    found = built({"name": "c", "env": entries}, Cluster(known_services=[service]))
    assert found["FIRST"] == found["SECOND"] == "127.79.128.9:$(LATER)"
    assert "TRITON_SERVICE_HOST" not in built(
        {"name": "c"}, Cluster(known_services=[service]), enableServiceLinks=False
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "p"),
        ("metadata.uid", "u"),
        ("metadata.labels['app']", "a"),
        ("metadata.annotations['k/x']", "y"),
        ("metadata.labels['absent']", ""),
        ("status.podIP", "127.79.64.7"),
        ("status.hostIP", "127.79.1.1"),
        ("spec.nodeName", "node-1"),
    ],
)
def test_the_downward_api_gives_a_pods_own_fields(path: str, value: str) -> None:
    entry = {"name": "X", "valueFrom": {"fieldRef": {"fieldPath": path}}}
    assert built({"name": "c", "env": [entry]})["X"] == value


@pytest.mark.parametrize(
    ("resource", "divisor", "value"),
    [
        ("limits.cpu", "1", "2"),
        ("limits.cpu", "1m", "1500"),
        ("requests.memory", "1Mi", "512"),
        ("limits.memory", "1Gi", "32"),
    ],
)
def test_a_resource_field_is_rounded_up_in_units_of_its_divisor(resource: str, divisor: str, value: str) -> None:
    reference = {"resource": resource, "divisor": divisor}
    container = {
        "name": "c",
        "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "512Mi"}},
        "env": [{"name": "X", "valueFrom": {"resourceFieldRef": reference}}],
    }
    assert built(container)["X"] == value


def test_config_maps_and_secrets_feed_env_and_missing_ones_are_named() -> None:
    cluster = Cluster(
        {"m": {"data": {"a": "1", "not a name": "2"}}}, {"s": {"data": {"b": base64.b64encode(b"two").decode()}}}
    )
    container: dict[str, Any] = {
        "name": "c",
        "envFrom": [{"prefix": "P_", "configMapRef": {"name": "m"}}, {"secretRef": {"name": "none", "optional": True}}],
        "env": [
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "b"}}},
            {"name": "O", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "x", "optional": True}}},
        ],
    }
    found = built(container, cluster)
    assert (found["P_a"], found["B"]) == ("1", "two")
    assert "O" not in found
    assert not any("not a name" in name for name in found)
    container["env"] = [{"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "x"}}}]
    with pytest.raises(ConfigError, match="couldn't find key x in Secret n/s"):
        built(container, cluster)
    container["envFrom"] = [{"configMapRef": {"name": "none"}}]
    with pytest.raises(ConfigError, match='configmap "none" not found'):
        built(container, cluster)


def test_volumes_of_every_type_become_folders_with_their_files(tmp_path: Path) -> None:
    cluster = Cluster(
        {"m": {"data": {"a.txt": "A", "b.txt": "B"}}}, {"s": {"data": {"k": base64.b64encode(b"K").decode()}}}
    )
    declared = [
        {"name": "empty", "emptyDir": {}},
        {"name": "map", "configMap": {"name": "m", "items": [{"key": "a.txt", "path": "deep/a"}]}},
        {"name": "secret", "secret": {"secretName": "s", "defaultMode": 0o400}},
        {
            "name": "down",
            "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels['app']"}}]},
        },
        {"name": "both", "projected": {"sources": [{"configMap": {"name": "m"}}, {"secret": {"name": "s"}}]}},
        {"name": "claim", "persistentVolumeClaim": {"claimName": "data"}},
    ]
    maker = VolumeMaker(pod(volumes=declared), tmp_path / "pod", tmp_path / "claims", PLACEMENT, cluster)
    made = maker.make()
    assert list(made["empty"].iterdir()) == []
    assert (made["map"] / "deep" / "a").read_text() == "A"
    assert ((made["secret"] / "k").read_text(), (made["secret"] / "k").stat().st_mode & 0o777) == ("K", 0o400)
    assert (made["down"] / "labels").read_text() == "a"
    assert sorted(each.name for each in made["both"].iterdir()) == ["a.txt", "b.txt", "k"]
    assert made["claim"] == tmp_path / "claims" / "n" / "data", "a claim's folder does not lie in the pod's"


@pytest.mark.parametrize(
    ("volume", "rule"),
    [
        ({"configMap": {"name": "none"}}, 'volume "v": configmap "none" not found'),
        ({"nfs": {"server": "x"}}, "type nfs is not one the lab has"),
    ],
)
def test_a_volume_that_cannot_be_made_is_named(tmp_path: Path, volume: dict[str, Any], rule: str) -> None:
    maker = VolumeMaker(pod(volumes=[{"name": "v", **volume}]), tmp_path, tmp_path, PLACEMENT, Cluster())
    with pytest.raises(VolumeError, match=rule):
        maker.make()


def test_shared_memory_belongs_to_the_pod_with_the_longest_name_that_begins_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "SHARED_MEMORY", tmp_path)
    for name in ("triton-1", "triton-1x", "triton-2x", "other"):
        (tmp_path / name).touch()
    assert sorted(each.name for each in shared_memory_of("triton", ["triton", "triton-1"])) == ["triton-2x"]
    assert sorted(each.name for each in shared_memory_of("triton-1", ["triton"])) == ["triton-1", "triton-1x"]


async def test_a_probes_period_runs_from_question_to_question() -> None:
    asked: list[float] = []

    async def execute(_argv: Sequence[str], _seconds: float) -> tuple[int, str]:
        asked.append(time.monotonic())
        await asyncio.sleep(0.3)
        return 0, ""

    async with aiohttp.ClientSession() as session:
        target = probes.Target({"name": "main"}, "127.79.64.1", execute, session)
        answers = probes.answers({"exec": {"command": ["true"]}, "periodSeconds": 0.4}, target)
        assert [await anext(answers) for _ in range(4)] == [None] * 4
        await answers.aclose()
    assert 1.15 <= asked[-1] - asked[0] < 1.7, "three periods of 0.4 s, not three of 0.7 s"


@pytest.mark.parametrize("binding", [(), None], ids=["bound by this interpreter", "bound as this machine can"])
async def test_what_is_no_program_is_told_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, binding: tuple[str, ...] | None
) -> None:
    if binding is not None:
        monkeypatch.setattr(run, "parent_binding_command", lambda: binding)
    (tmp_path / "plain").touch()
    for name, reason in (("absent", "No such file"), ("plain", "Permission denied")):
        with pytest.raises(run.StartError, match=rf'exec: ".*{name}".*{reason}'):
            run.Run.start([str(tmp_path / name)], {}, tmp_path, tmp_path / "log", pod_uid="u", run_id="r")
    done = run.Run.start(["/bin/sh", "-c", "exit 7"], {}, tmp_path, tmp_path / "log", pod_uid="u", run_id="r")
    assert (await done.wait()).code == 7
