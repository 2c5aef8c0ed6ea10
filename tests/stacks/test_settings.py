"""Settings of each layer: good ones are read, each bad one is refused before anything is declared."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from infra import checkers, settings
from infra.checks import SettingError
from stacks.contract import StackName

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "stacks" / "config"
LAYERS: dict[str, list[type[settings.Settings]]] = {
    "storage": [settings.StorageSettings],
    "pool": [settings.PrivatePoolSettings, settings.PublicPoolSettings],
    "platform": [settings.PlatformSettings],
    "serving": [settings.ServingSettings],
    "traffic": [settings.TrafficSettings],
}
EVERY = [cls for group in LAYERS.values() for cls in group]
TYPES = {"str": "string", "int": "integer", "bool": "boolean", "float": "string", "tuple[str, ...]": "array"}


def declared_keys() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    return loaded


def text(value: Any) -> str:
    """A value as the engine hands it to a program."""
    return value if isinstance(value, str) else json.dumps(value)


def tracked(stack: str) -> dict[str, Any]:
    loaded = yaml.safe_load((CONFIG / f"Pulumi.{stack}.yaml").read_text())["config"]
    if stack.startswith("serving"):
        loaded["tandem:model_digest"] = "sha256:" + "a" * 64
    return dict(loaded)


@pytest.fixture
def stack_config() -> Iterator[Any]:
    """Sets the configuration a program would see: the project's defaults under the stack's own values."""

    def configure(values: dict[str, Any]) -> None:
        defaults = {f"tandem:{key}": entry["default"] for key, entry in declared_keys().items()}
        pulumi.runtime.set_all_config({key: text(value) for key, value in {**defaults, **values}.items()})

    yield configure
    pulumi.runtime.set_all_config({})


STACKS = sorted(path.stem.removeprefix("Pulumi.") for path in CONFIG.glob("Pulumi.*.yaml"))


@pytest.mark.parametrize("stack", STACKS)
def test_each_tracked_file_is_read_and_meets_every_rule(stack: str, stack_config: Any) -> None:
    name = StackName.parse(stack)
    stack_config(tracked(stack))
    assert settings.read(name.layer, name.site).layer == name.layer


@pytest.mark.parametrize("stack", STACKS)
def test_a_tracked_file_sets_only_keys_its_layer_reads(stack: str) -> None:
    kinds = LAYERS[StackName.parse(stack).layer]
    known = {f"tandem:{entry.name}" for cls in kinds for entry in cls.declared()}
    assert set(tracked(stack)) <= known, "a key nobody reads is a setting somebody believes in"


@pytest.mark.parametrize("stack", [stack for stack in STACKS if stack.endswith(".lab")])
def test_a_tracked_lab_file_carries_nothing_a_command_wrote_into_it(stack: str) -> None:
    assert set(yaml.safe_load((CONFIG / f"Pulumi.{stack}.yaml").read_text())) == {"config"}


def test_pulumi_yaml_declares_exactly_the_keys_the_layers_read() -> None:
    assert set(declared_keys()) == {entry.name for cls in EVERY for entry in cls.declared()}


@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.__name__)
def test_pulumi_yaml_has_the_type_default_and_description_of_each_setting(cls: type[settings.Settings]) -> None:
    for entry in cls.declared():
        key = declared_keys()[entry.name]
        expected = TYPES.get(str(entry.type), "object")
        if "secret" in key:
            assert "type" not in key, "the CLI refuses a default of a typed secret"
        else:
            assert key["type"] == expected, entry.name
        assert cls.layer in key["description"] or "pool" in key["description"], entry.name
        if settings.required(entry):
            assert key["default"] in ("", {}, []), f"{entry.name} is required; a default would hide that"
        else:
            default = entry.default if entry.default_factory is dataclasses.MISSING else entry.default_factory()
            written = str(default) if isinstance(default, float) else default
            assert key["default"] == (list(written) if isinstance(written, tuple) else written), entry.name


@pytest.mark.parametrize(
    ("stack", "key", "value", "said"),
    [
        ("storage-private.lab", "kind", "hybrid", "private, public"),
        ("storage-private.lab", "region", "", "needs one"),
        ("storage-private.lab", "aws_endpoints", {}, "object store"),
        ("storage-private.lab", "aws_endpoints", {"s3": "127.10.0.2:9000"}, "URL"),
        ("storage-private.lab", "aws_endpoints", {"s4": "http://a"}, "one of"),
        ("storage-private.lab", "protect", True, "force_destroy and protect"),
        ("storage-private.lab", "secret_key", "", "both halves"),
        ("storage-private.lab", "checker_cidrs", ["0.0.0.0/0"], "from /8"),
        ("storage-private.lab", "checker_cidrs", ["192.0.2.1/24"], "no host bits"),
        ("storage-private.lab", "gateway_cidrs", ["gateways"], "IPv4 network"),
        ("pool-private.lab", "kind", "", "private, public"),
        ("pool-private.lab", "gpu_nodes", 9, "between"),
        ("pool-private.lab", "gpu_nodes_min", 3, "between"),
        ("pool-private.lab", "gpu_nodes_max", 0, "between"),
        ("pool-private.lab", "node_grace_seconds", 10, "between 20 and 600"),
        ("pool-public.lab", "node_grace_seconds", 10, "between 20 and 600"),
        ("pool-private.lab", "edge_address", "private.example", "IPv4"),
        ("pool-private.lab", "kubeconfig", {}, "current-context"),
        ("pool-private.lab", "cpu", "four", "whole number"),
        ("pool-public.lab", "zones", ["eu-central-1a"], "two to four"),
        ("pool-public.lab", "zones", ["eu-central-1a", "eu-central-1a"], "different"),
        ("pool-public.lab", "vpc_cidr", "10.0.0.0/24", "/16"),
        ("pool-public.lab", "gpu_instance_types", [], "at least"),
        ("pool-public.lab", "cluster_authentication", "token", "aws-cli"),
        ("platform-private.lab", "device_plugin_image", "nvcr.io/nvidia/k8s-device-plugin:v0.17", "no tag"),
        ("platform-private.lab", "gpu_quota", -1, "between"),
        ("platform-private.lab", "lease_image", "", "needs one"),
        ("platform-private.lab", "lease_image", "drills:latest", "no tag"),
        ("platform-private.lab", "machines_in_cluster", "perhaps", "true or false"),
        ("serving-private.lab", "accepted_digests", ["v2"], "digest in accepted_digests"),
        ("serving-private.lab", "accepted_digests", ["sha256:" + "b" * 64], "add it"),
        ("serving-private.lab", "concurrency_limit", 0, "between 1 and"),
        ("serving-private.lab", "hold_down_seconds", -1, "between 0 and"),
        ("serving-private.lab", "model_digest", "", "needs one"),
        ("serving-private.lab", "model_digest", "v2", "digest"),
        ("serving-private.lab", "triton_image", "tritonserver:latest", "no tag"),
        ("serving-private.lab", "backend", "tpu", "cpu, gpu"),
        ("serving-private.lab", "triton_memory", "512", "512Mi"),
        ("serving-private.lab", "triton_cpu", "0.25", "250m"),
        ("serving-private.lab", "triton_replicas", 0, "between"),
        ("serving-private.lab", "inference_timeout_seconds", "soon", "a number"),
        ("traffic.lab", "sites", {"private": 256}, "0 to 255"),
        ("traffic.lab", "sites", {"private": 0, "public": 0}, "above 0"),
        ("traffic.lab", "sites", {}, "names no site"),
        ("traffic.lab", "alias_sites", ["edge"], "one of"),
        ("traffic.lab", "health_interval_seconds", 7, "10, 30"),
        ("traffic.lab", "health_threshold", 11, "between 1 and 10"),
        ("traffic.lab", "ttl_seconds", 300, "between 1 and 60"),
        ("traffic.lab", "service_name", "recommend.example.com", "inside the zone"),
        ("traffic.lab", "scheme", "tcp", "http, https"),
        ("traffic.lab", "resolver", "dns", "address and a port"),
        ("traffic.lab", "request_timeout_seconds", "0", "between"),
        ("traffic.lab", "shadow_name", "shadow.example.com", "inside the zone"),
        ("traffic.lab", "shadow_name", "recommend.tandem.test", "is none of"),
        ("traffic.lab", "shadow_name", "private.recommend.tandem.test", "is none of"),
        ("traffic.lab", "signal_stores", ["edge"], "one of"),
        ("traffic.lab", "checker_cidrs", ["checkers"], "IPv4 network"),
        ("traffic.lab", "objective_recovery_seconds", 39, "costs up to 40 s.* promise at least 40"),
        ("traffic.lab", "ttl_seconds", 6, "costs up to 41 s"),
        ("traffic.lab", "request_timeout_seconds", "2.5", "costs up to 40.5 s.* promise at least 41"),
        ("traffic.lab", "objective_availability_percent", "101", "between 0 and 100"),
        ("traffic.lab", "objective_availability_percent", "most", "a number"),
        ("traffic.lab", "objective_p99_ms", 0, "between"),
    ],
)
def test_a_bad_setting_is_refused(stack: str, key: str, value: Any, said: str, stack_config: Any) -> None:
    name = StackName.parse(stack)
    stack_config({**tracked(stack), f"tandem:{key}": value})
    with pytest.raises(SettingError, match=said):
        settings.read(name.layer, name.site)


def test_a_gpu_backend_needs_a_gpu(stack_config: Any) -> None:
    stack_config({**tracked("serving-private.lab"), "tandem:backend": "gpu", "tandem:gpus_per_pod": 0})
    with pytest.raises(SettingError, match="gpus_per_pod is 0"):
        settings.read("serving", "private")


def test_networks_that_nobody_set_are_the_published_ones(stack_config: Any) -> None:
    for layer in ("storage-private.lab", "traffic.lab"):
        values = tracked(layer)
        del values["tandem:checker_cidrs"]
        stack_config(values)
        name = StackName.parse(layer)
        assert settings.read(name.layer, name.site).checker_cidrs == checkers.NETWORKS  # type: ignore[attr-defined]


def test_an_empty_list_of_networks_is_refused(stack_config: Any) -> None:
    stack_config({**tracked("traffic.lab"), "tandem:checker_cidrs": []})
    with pytest.raises(SettingError, match="checker_cidrs is empty"):
        settings.read("traffic", None)


def test_credentials_are_in_no_text_form_of_settings(stack_config: Any) -> None:
    stack_config({**tracked("serving-private.lab"), "tandem:secret_key": "hush", "tandem:access_key": "hush"})
    assert "hush" not in repr(settings.read("serving", "private"))


def test_two_keys_of_one_name_have_one_meaning() -> None:
    defaults: dict[str, set[str]] = {}
    for cls in EVERY:
        for entry in cls.declared():
            if not settings.required(entry):
                defaults.setdefault(entry.name, set()).add(str(entry.default))
    assert [name for name, found in defaults.items() if len(found) > 1] == []
