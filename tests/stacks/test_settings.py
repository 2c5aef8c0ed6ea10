"""Settings of each layer: good ones are read, each bad one is refused before anything is declared."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator
from functools import cache
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


@cache
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


HEARD = {"site": "private", "via": "alarm", "treat_missing_data": "breaching"}
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
        expected = TYPES.get(str(entry.type), "array" if str(entry.type).startswith("tuple[") else "object")
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
        ("storage-private.lab", "store", "minio", "aws, ceph"),
        ("storage-private.lab", "store_tls", True, "would refuse every request"),
        ("storage-public.prod", "store_tls", False, "which speaks TLS"),
        ("storage-public.prod", "store", "ceph", "has no s3"),
        ("storage-private.lab", "replication", "aws", "only AWS copies"),
        ("storage-private.lab", "backup", "multisite", "aws, external, none"),
        ("storage-private.lab", "second_region", "eu-west-1", "nothing is declared there"),
        ("storage-public.prod", "second_region", "eu-central-1", "the site's own"),
        ("storage-public.prod", "second_region", "", "a region's name"),
        ("storage-public.prod", "second_endpoints", {"s3": "https://s3.example.com"}, "set both or none"),
        ("storage-public.prod", "backup_role", "tandem-backup", "ARN of a role"),
        ("storage-public.prod", "lock_mode", "legal", "compliance, governance"),
        ("storage-public.prod", "lock_days", 0, "could delete its backup"),
        ("storage-public.prod", "lock_days", 400, "longer than they may be kept"),
        ("storage-public.lab", "lock_mode", "compliance", "nobody deletes what is locked so"),
        ("storage-public.prod", "noncurrent_days", 0, "between 1 and"),
        ("storage-public.prod", "raw_events_days", 0, "between 1 and"),
        ("storage-public.prod", "events_cold_days", 29, "at least 30"),
        ("storage-public.prod", "events_cold_days", 365, "less than events_days"),
        ("storage-public.prod", "alarm_emails", ["oncall"], "one mail address"),
        ("storage-private.lab", "checker_cidrs", ["0.0.0.0/0"], "from /8"),
        ("storage-private.lab", "checker_cidrs", ["192.0.2.1/24"], "no host bits"),
        ("storage-private.lab", "gateway_cidrs", ["gateways"], "IPv4 network"),
        ("storage-private.prod", "credentials_profile", "two words", "names a profile"),
        ("serving-private.prod", "store_secret", "", "could fetch no model"),
        ("serving-private.lab", "store_secret", "store-reader", "open their store with one key"),
        ("serving-private.prod", "store_secret", "Store_Reader", "lower-case letters"),
        ("serving-private.prod", "lease_secret", "-", "lower-case letters"),
        ("pool-private.lab", "kind", "", "private, public"),
        ("pool-private.lab", "node_grace_seconds", 10, "between 20 and 600"),
        ("pool-public.lab", "node_grace_seconds", 10, "between 20 and 600"),
        ("pool-private.lab", "edge_address", "private.example", "IPv4"),
        ("pool-private.lab", "kubeconfig", {}, "current-context"),
        ("pool-private.lab", "edge_public_address", "private.example", "IPv4"),
        ("pool-private.lab", "edge_mode", "keepalived", "cilium, external, metallb"),
        ("pool-private.lab", "edge_mode", "external", r"edge_node_port is 0; .* 30000 and 32767"),
        ("pool-private.lab", "edge_node_port", 30080, "remove it, or set edge_mode to external"),
        ("pool-private.lab", "pool_mode", "rent", "adopt, machines"),
        ("pool-private.lab", "pool_mode", "adopt", "gpu_pools is set and pool_mode is adopt"),
        ("pool-private.lab", "adopted_pools", [{"name": "old", "nodes": ["gpu-1"]}], "set pool_mode to adopt"),
        ("pool-private.lab", "management_kubeconfig", {}, "management_kubeconfig is empty"),
        ("pool-private.lab", "kubernetes_version", "", "names 3 numbers"),
        ("pool-private.lab", "gpu_pools", [], "gpu_pools is empty"),
        ("pool-private.lab", "gpu_pools", {"name": "gpu"}, "no list of maps"),
        ("pool-private.lab", "gpu_pools", ["gpu"], "no list of maps"),
        ("pool-private.lab", "gpu_pools", [{"gpu_count": 1}], r"gpu_pools\[0\]\.name has no value"),
        ("pool-private.lab", "gpu_pools", [{"name": "a", "gpus": 1}], r"gpu_pools\[0\]\.gpus is not known.*gpu_count"),
        ("pool-private.lab", "gpu_pools", [{"name": "a", "cpu": "four"}], r"gpu_pools\[0\]\.cpu .* whole number"),
        ("pool-private.lab", "gpu_pools", [{"name": "a", "desired": 9}], r"pools\[0\]\.desired is 9; it lies between"),
        ("pool-private.lab", "gpu_pools", [{"name": "a", "min": 3}], "between 0 and 2"),
        ("pool-private.lab", "gpu_pools", [{"name": "a", "max": 0}], "between 1 and"),
        ("pool-private.lab", "gpu_pools", [{"name": "a", "min": 2, "autoscaled": True}], "nothing to scale between"),
        ("pool-private.lab", "gpu_pools", [{"name": "a"}, {"name": "a"}], "declared twice"),
        ("pool-private.lab", "gpu_pools", [{"name": "a", "gpu_type": "a100"}], "nvidia.com/gpu"),
        ("pool-private.lab", "gpu_pools", [{"name": "a", "labels": {"rack": "b"}}], "node.cluster.x-k8s.io"),
        ("pool-private.lab", "gpu_pools", [{"name": "a", "labels": {"node.cluster.x-k8s.io/a": "b c"}}], "respell"),
        ("pool-public.lab", "zones", ["eu-central-1a"], "two to four"),
        ("pool-public.lab", "zones", ["eu-central-1a", "eu-central-1a"], "different"),
        ("pool-public.lab", "vpc_cidr", "10.0.0.0/24", "/16"),
        ("pool-public.lab", "gpu_pools", [], "gpu_pools is empty"),
        ("pool-public.lab", "cluster_authentication", "token", "aws-cli"),
        ("platform-private.lab", "device_plugin_image", "nvcr.io/nvidia/k8s-device-plugin:v0.17", "no tag"),
        ("platform-private.lab", "gpu_quota", -1, "between"),
        ("platform-private.lab", "alert_webhooks", ["https://hooks.example/x"], "put the URL into that Secret"),
        ("platform-private.lab", "alert_mail_to", ["oncall@example.com"], "set both"),
        ("platform-private.prod", "charts_elsewhere", ["kube-prometheus-stack"], "who keeps that chart says whom"),
        ("pool-public.lab", "edge_log_bucket", "tandem-audit", "logs connections whose TLS it ends"),
        ("pool-public.prod", "edge_log_bucket", "s3://tandem-audit", "the name of a bucket"),
        ("pool-public.prod", "kubernetes_support", "forever", "extended, standard"),
        ("platform-private.lab", "kind", "", "needs one"),
        ("platform-private.lab", "gpu_stack", "mig", "device-plugin, operator"),
        ("platform-private.lab", "gpu_stack", "operator", "two would offer each GPU twice"),
        ("platform-private.lab", "device_plugin_image", "", "repository@sha256"),
        ("platform-private.lab", "gpu_driver", "operator", "a device plugin installs no driver"),
        ("platform-private.lab", "gpu_driver", "perhaps", "one of"),
        ("platform-private.lab", "quota_cpu", "many", "whole cores"),
        ("platform-private.lab", "quota_memory", "256GB", "Mi or Gi"),
        ("platform-private.lab", "quota_pods", 0, "between 1 and"),
        ("platform-private.lab", "charts_elsewhere", ["aws-load-balancer-controller"], "charts of this kind of site"),
        ("platform-public.lab", "charts_elsewhere", ["gpu-operator"], "charts of this kind of site"),
        ("platform-public.lab", "chart_versions", {"nginx": "1.2.3"}, "charts of this kind of site"),
        ("platform-public.lab", "chart_versions", {"keda": "2.x"}, "pinned to one version"),
        ("platform-private.lab", "lease_image", "", "needs one"),
        ("platform-private.lab", "lease_image", "drills:latest", "no tag"),
        ("platform-private.lab", "machines_in_cluster", "perhaps", "true or false"),
        ("serving-private.lab", "tls_issuer", "letsencrypt", "set both or neither"),
        ("serving-private.lab", "tls_names", ["recommend"], "at least two parts"),
        ("serving-private.prod", "tls_secret", "kept-elsewhere", "remove one of them"),
        ("serving-private.lab", "triton_rollout", "slowly", "auto, replace, surge"),
        ("serving-private.lab", "triton_grace_seconds", 18, r"pause 3 \+ exit 10 \+ rest 5 = 18 s"),
        ("serving-private.lab", "triton_pause_seconds", 4000, "between 0 and 3600"),
        ("serving-private.lab", "triton_exit_seconds", 0, "between 1 and"),
        ("serving-private.lab", "inference_timeout_seconds", "12.5", "triton_exit_seconds is 10; .* at least 13"),
        ("serving-private.lab", "gateway_grace_seconds", 12, r"pause 3 \+ exit 4 \+ rest 5 = 12 s"),
        ("serving-private.lab", "autoscaling_max_replicas", 2, "nothing to scale between"),
        ("serving-private.lab", "autoscaling_queue_per_pod", 0, "between 1 and"),
        ("serving-private.lab", "prometheus_url", "prometheus:9090", "URL"),
        ("serving-private.lab", "replication_lag_metric", "lag > 5", "name of a Prometheus metric"),
        ("serving-private.lab", "replication_lag_seconds", -1, "between 0 and"),
        ("serving-private.lab", "copies_watched", True, "the exporter runs on a public site"),
        ("serving-public.lab", "monitoring", False, "nothing is read of it without monitoring"),
        ("serving-public.lab", "replication_lag_metric", "own_lag", "what the exporter tells is aws_s3_replication"),
        ("platform-private.lab", "copies_watched", True, "no identity of a private site's pods"),
        ("serving-private.lab", "objective_availability_percent", "100", "between 0 and 99.999"),
        ("serving-private.lab", "store_cidrs", ["store"], "IPv4 network"),
        ("serving-private.lab", "store_cidrs", [], "pods have to get there"),
        ("serving-private.lab", "other_store_ports", ["https"], "a port is a number"),
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
        ("serving-private.lab", "requests_per_second_per_pod", "0", "between"),
        ("serving-private.lab", "requests_per_second_per_gateway", "", "needs one"),
        ("serving-private.lab", "inference_timeout_seconds", "soon", "a number"),
        ("traffic.lab", "sites", {"private": 256}, "0 to 255"),
        ("traffic.lab", "sites", {"private": 0, "public": 0}, "above 0"),
        ("traffic.lab", "sites", {}, "names no site"),
        ("traffic.lab", "peak_requests_per_second", "", "needs one"),
        ("traffic.lab", "peak_requests_per_second", "-1", "between"),
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
        ("traffic.lab", "site_checks", [{"site": "private"}], "via has no value"),
        ("traffic.lab", "site_checks", [{"site": "edge", "via": "golden"}], "one of"),
        ("traffic.lab", "site_checks", [{"site": "private", "via": "golden"}] * 2, "2 times"),
        ("traffic.lab", "site_checks", [HEARD], "signal_stores is empty"),
        ("traffic.lab", "certificates", {"private": "eu-central-1"}, "site in certificates"),
        ("traffic.lab", "certificate_alert_days", 90, "between 1 and 60"),
        ("traffic.lab", "alarm_emails", ["oncall"], "mail address"),
        ("traffic.lab", "alarm_urls", ["alerts.example.com"], "http or https"),
        ("traffic.lab", "query_log_days", 2, "one of 1, 3"),
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


def test_a_mark_counts_in_three_other_stores_and_goes_on_counting_when_a_site_comes(stack_config: Any) -> None:
    stack_config(tracked("traffic.lab"))
    traffic = settings.read("traffic", None)
    assert isinstance(traffic, settings.TrafficSettings)
    for names in (["a", "b", "c", "d", "e", "f"], ["a", "b", "c", "d"]):
        before = dataclasses.replace(traffic, sites=dict.fromkeys(names, 1))
        after = dataclasses.replace(traffic, sites=dict.fromkeys([*names, "bb"], 1))
        stores = {site: set(before.drain_stores(site)) for site in names}
        assert all(site not in chosen and len(chosen) == 3 for site, chosen in stores.items())
        assert all(len(chosen & set(after.drain_stores(site))) >= 2 for site, chosen in stores.items())
        assert Counter(store for chosen in stores.values() for store in chosen) == dict.fromkeys(names, 3)
