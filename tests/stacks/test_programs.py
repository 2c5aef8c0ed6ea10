"""Whole programs under the recording engine, each reading what the ones below it exported."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from infra import settings
from infra.checks import SettingError
from stacks import references
from stacks.contract import LAYERS, SITE_LAYERS, ContractError, Objectives, SiteEndpoint, StackName, TrafficOutputs
from tests.infra import recording
from tests.infra.recording import Graph, run

ROOT = Path(__file__).resolve().parents[2]
SITES = ("private", "public")
STACKS = [f"{layer}-{site}.lab" for layer in SITE_LAYERS for site in SITES] + ["traffic.lab"]
DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


@pytest.fixture(autouse=True)
def _no_config_left() -> Iterator[None]:
    yield
    pulumi.runtime.set_all_config({})


def configuration(stack: str) -> dict[str, Any]:
    loaded = yaml.safe_load((ROOT / "stacks" / "config" / f"Pulumi.{stack}.yaml").read_text())["config"]
    if stack.startswith("serving"):
        loaded["tandem:model_digest"] = DIGEST
    return dict(loaded)


def below(name: StackName) -> list[str]:
    """Stacks whose outputs this one may read."""
    if name.layer == "traffic":
        return [f"{layer}-{site}.{name.env}" for layer in ("storage", "pool", "serving") for site in SITES]
    return [str(name.sibling(layer)) for layer in SITE_LAYERS[: SITE_LAYERS.index(name.layer)]]


def program(stack: str, recorded: dict[str, dict[str, Any]] | None = None, **changes: Any) -> Graph:
    name = StackName.parse(stack)
    if recorded is None:
        recorded = {StackName.parse(other).qualified: exported(other) for other in below(name)}
    values = {**configuration(stack), **{f"tandem:{key}": value for key, value in changes.items()}}
    pulumi.runtime.set_all_config({k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items()})
    declare = importlib.import_module(f"stacks.{name.layer}").declare
    return run(lambda: declare(name, settings.read(name.layer, name.site)), recorded)


@cache
def exported(stack: str) -> dict[str, Any]:
    """What the stack exports, as the next one finds it recorded."""
    result: dict[str, Any] = program(stack).result
    return result


@pytest.mark.parametrize("stack", STACKS)
def test_a_program_exports_exactly_its_contract(stack: str) -> None:
    outputs = exported(stack)
    LAYERS[StackName.parse(stack).layer].check_keys(outputs)
    assert [key for key, value in outputs.items() if value is None] == [], "an export without a value vanishes"
    for endpoint in outputs["sites"].values() if "sites" in outputs else ():
        SiteEndpoint.check_keys(endpoint)
    if "objectives" in outputs:
        Objectives.check_keys(outputs["objectives"])


@pytest.mark.parametrize("stack", STACKS)
def test_every_resource_has_a_component_above_it_and_an_explicit_provider(stack: str) -> None:
    graph = program(stack)
    own = {"pulumi:providers:aws", "pulumi:providers:kubernetes", "kubernetes:core/v1:Secret"}
    assert graph.without_parent() <= own
    assert graph.unproved() == set()


@pytest.mark.parametrize("layer", ["platform", "serving"])
def test_both_kinds_of_site_pass_through_the_same_declarations(layer: str) -> None:
    private, public = (program(f"{layer}-{site}.lab") for site in SITES)
    edge = {"kubernetes:elbv2.k8s.aws/v1beta1:TargetGroupBinding"}
    assert private.types() ^ public.types() <= edge
    if layer == "serving":
        for name in ("triton-deployment", "gateway-deployment"):
            ours, theirs = (
                json.dumps(graph.one("Deployment", name), sort_keys=True).replace(site, "SITE")
                for graph, site in ((private, "private"), (public, "public"))
            )
            # What is left to differ is the store: its address, region and bucket.
            for graph_text, site in ((ours, "private"), (theirs, "public")):
                store = exported(f"storage-{site}.lab")
                assert store["endpoint"] in graph_text
            assert ours.replace("127.10.", "").replace("us-east-1", "") == theirs.replace("127.20.", "").replace(
                "eu-central-1", ""
            )


def test_the_traffic_stack_builds_no_kubernetes_provider_and_reads_what_is_recorded_only() -> None:
    graph = program("traffic.lab")
    assert not {kind for kind in graph.types() if "kubernetes" in kind}
    assert graph.references() == {f"{layer}-{site}" for layer in ("storage", "pool", "serving") for site in SITES}


def test_a_sites_mark_counts_in_the_store_of_the_other_site() -> None:
    graph = program("traffic.lab")
    sites = TrafficOutputs.read(graph.result).sites
    assert (sites["private"].drain_stores, sites["public"].drain_stores) == (["public"], ["private"])
    check = graph.one("HealthCheck", "traffic-private-drain-public")
    assert (check["ipAddress"], check["port"]) == ("127.20.0.2", 9000)
    assert check["resourcePath"] == f"/{exported('storage-public.lab')['signal_bucket']}/drain/private"
    shadow = graph.one("HealthCheck", "traffic-private-shadow-drain-public")
    assert shadow["resourcePath"].endswith("/drain/private.shadow")
    live = [sites["private"].golden_check_id, *sites["private"].drain_check_ids]
    synthetic = [*live, *sites["private"].shadow_drain_check_ids]
    assert len(synthetic) == 3
    assert graph.one("HealthCheck", "traffic-private-serving")["childHealthchecks"] == live
    assert graph.one("HealthCheck", "traffic-private-shadow")["childHealthchecks"] == synthetic
    by_record = [graph.one("Record", name)["healthCheckId"] for name in ("traffic-private", "traffic-private-shadow")]
    assert len(set(by_record)) == 2
    assert not set(by_record) & set(synthetic), "records go by the calculated checks"


def test_with_one_signal_store_its_own_site_is_drained_there_too() -> None:
    graph = program("traffic.lab", signal_stores=["public"])
    assert [graph.result["sites"][site]["drain_stores"] for site in SITES] == [["public"], ["public"]]
    assert "storage-private" not in graph.references()


def test_without_a_shadow_name_there_is_no_second_name_and_no_check_of_it() -> None:
    graph = program("traffic.lab", shadow_name="")
    assert graph.result["shadow_name"] == ""
    assert [site["shadow_drain_check_ids"] for site in graph.result["sites"].values()] == [[], []]
    assert not [name for name in graph.of("Record") if "shadow" in name]


def test_what_an_environment_promises_is_exported() -> None:
    promised = TrafficOutputs.read(exported("traffic.lab")).objectives
    assert promised == Objectives(recovery_seconds=40, availability_percent=99.5, p99_ms=500, wrong_answers=0)


def test_a_rollout_moves_gateways_when_the_accepted_set_grows_and_triton_when_the_served_version_moves() -> None:
    alone, both, moved = (
        program("serving-private.lab", model_digest=served, accepted_digests=accepted)
        for served, accepted in ((DIGEST, []), (DIGEST, [OTHER, DIGEST]), (OTHER, [DIGEST, OTHER]))
    )

    def template(graph: Graph, name: str) -> Any:
        return graph.one("Deployment", f"{name}-deployment")["spec"]["template"]

    assert template(alone, "triton") == template(both, "triton") != template(moved, "triton")
    assert template(alone, "gateway") != template(both, "gateway") == template(moved, "gateway")
    assert both.result["accepted_digests"] == [DIGEST, OTHER], "the served one first"
    assert moved.result["accepted_digests"] == [OTHER, DIGEST]
    assert alone.result["accepted_digests"] == [DIGEST]


def test_gateways_look_for_the_mark_in_the_store_of_their_own_site() -> None:
    [server] = program("serving-public.lab").one("Deployment", "gateway-deployment")["spec"]["template"]["spec"][
        "containers"
    ]
    values = {entry["name"]: entry.get("value") for entry in server["env"]}
    assert values["DRAIN_URL"] == f"{exported('storage-public.lab')['signal_url']}/drain/public"


def test_marks_are_open_to_checkers_and_to_the_sites_gateways() -> None:
    policy = json.loads(program("storage-private.lab").one("BucketPolicy", "private-signals-policy")["policy"])
    [opened] = [statement for statement in policy["Statement"] if statement["Effect"] == "Allow"]
    assert opened["Resource"].endswith("/drain/*")
    assert opened["Condition"]["IpAddress"]["aws:SourceIp"] == ["127.10.64.0/18", "127.30.1.16/29", "127.30.1.24/29"]


def test_the_namespace_names_its_environment_and_an_undo_has_rights_where_the_machines_are() -> None:
    graph = program("platform-private.lab")
    assert graph.one("Namespace", "private-namespace")["metadata"]["labels"]["tandem.io/environment"] == "lab"
    assert graph.result["environment"] == "lab"
    assert graph.one("Role", "private-lease-machines")["metadata"]["namespace"] == "default"
    assert list(program("platform-public.lab").of("Role")) == ["public-lease"]


def test_a_cloud_keeps_its_machines_and_gives_nobody_rights_on_them() -> None:
    assert exported("pool-public.lab")["machine_namespace"] == ""
    with pytest.raises(ValueError, match=r"machine_namespace of pool-public\.lab is empty"):
        program("platform-public.lab", machines_in_cluster=True)


def test_weights_reach_the_records_and_the_outputs_alike() -> None:
    graph = program("traffic.lab", sites={"private": 255, "public": 0})
    assert graph.one("Record", "traffic-public")["weightedRoutingPolicies"] == [{"weight": 0}]
    assert {site: end["weight"] for site, end in graph.result["sites"].items()} == {"private": 255, "public": 0}


def test_a_site_with_settings_and_no_weight_stops_the_traffic_stack_before_any_resource() -> None:
    with pytest.raises(SettingError, match="public has none"):
        program("traffic.lab", sites={"private": 70})


def test_what_the_sites_minus_any_one_do_not_carry_stops_the_traffic_stack_before_any_resource(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[recording.Monitor] = []

    class Kept(recording.Monitor):
        def __init__(self, mocks: Any) -> None:
            super().__init__(mocks)
            started.append(self)

    program("traffic.lab", peak_requests_per_second="120")
    monkeypatch.setattr(recording, "Monitor", Kept)
    # The SDK says in what it was on the way, as an error of its own.
    with pytest.raises(ValueError, match=r"without private, public gets 121/s and carries 120/s"):
        program("traffic.lab", peak_requests_per_second="121")
    [monitor] = started
    assert [urn for urn, request in monitor.requests.items() if request.custom] == []


def test_gpus_that_may_be_taken_away_carry_no_peak() -> None:
    recorded = {StackName.parse(other).qualified: exported(other) for other in below(StackName.parse("traffic.lab"))}
    name = StackName.parse("pool-public.lab").qualified
    recorded[name] = {**recorded[name], "firm_gpus": 0}
    with pytest.raises(ValueError, match=r"without private, public gets 50/s and carries 0/s .* for 0 firm GPUs"):
        program("traffic.lab", recorded)


def test_a_site_may_be_an_alias_of_its_load_balancer() -> None:
    graph = program("traffic.lab", alias_sites=["public"], objective_recovery_seconds=95)
    assert graph.one("Record", "traffic-public")["aliases"][0]["name"] == "public-edge.elb.example"
    assert graph.result["ttl_seconds"] == 60, "an alias has the DNS service's own TTL"
    assert exported("traffic.lab")["ttl_seconds"] == 5
    with pytest.raises(SettingError, match=r"costs up to 95 s.* an alias's own TTL 60 .*promise at least 95"):
        program("traffic.lab", alias_sites=["public"], objective_recovery_seconds=94)


def test_an_alias_for_a_site_without_a_load_balancer_names_the_missing_output() -> None:
    with pytest.raises(ValueError, match=r"edge_dns_name of pool-private\.lab is empty"):
        program("traffic.lab", alias_sites=["private"], objective_recovery_seconds=95)


def test_what_does_not_fit_the_site_stops_the_serving_stack_before_any_object() -> None:
    name = StackName.parse("serving-public.lab")
    recorded = {StackName.parse(other).qualified: dict(exported(other)) for other in below(name)}
    pool = recorded["organization/tandem/pool-public.lab"]
    recorded["organization/tandem/pool-public.lab"] = {**pool, "edge_deregistration_seconds": 30}
    with pytest.raises(ValueError, match=r"gateway_pause_seconds is 5; the edge may send to a leaving pod for 30 s"):
        program(str(name), recorded, gateway_pause_seconds=5)
    graph = program(str(name), recorded)
    spec = graph.one("Deployment", "gateway-deployment")["spec"]["template"]["spec"]
    assert spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"] == 30
    assert spec["terminationGracePeriodSeconds"] == 41
    with pytest.raises(ValueError, match="5 Triton pods x 1 GPUs are 5 GPUs"):
        program(str(name), recorded, triton_replicas=5)


def test_a_site_scales_on_its_queue_by_one_setting() -> None:
    assert program("serving-private.lab").of("ScaledObject") == {}
    graph = program("serving-private.lab", autoscaling_max_replicas=4)
    assert graph.one("ScaledObject")["spec"]["maxReplicaCount"] == 4
    assert list(graph.request("Deployment", "triton-deployment").ignoreChanges) == ["spec.replicas"]
    assert graph.result["triton_replicas"] == 2, "what the site can be counted on for"


def test_gateways_end_tls_with_a_certificate_of_the_cluster_or_of_somebody_else() -> None:
    issued = program("serving-private.lab", tls_issuer="letsencrypt", tls_names=["recommend.tandem.example"])
    kept = program("serving-private.lab", tls_secret="kept-elsewhere")
    for graph, secret in ((issued, "gateway-tls"), (kept, "kept-elsewhere")):
        volumes = graph.one("Deployment", "gateway-deployment")["spec"]["template"]["spec"]["volumes"]
        assert {volume["name"]: volume.get("secret", {}).get("secretName") for volume in volumes}["tls"] == secret
    assert issued.one("Certificate")["spec"]["issuerRef"]["name"] == "letsencrypt"
    assert kept.of("Certificate") == {}


def test_a_site_gets_the_charts_of_its_kind_that_nobody_else_keeps() -> None:
    common = {"charts-cert-manager", "charts-keda", "charts-kube-prometheus-stack"}
    assert set(program("platform-private.lab").of("Release")) == common
    public = program("platform-public.lab")
    exporter = "charts-prometheus-yet-another-cloudwatch-exporter"
    assert set(public.of("Release")) == {*common, "charts-aws-load-balancer-controller", exporter}
    unwatched = program("platform-public.lab", copies_watched=False)
    assert exporter not in unwatched.of("Release")
    assert unwatched.references() == {"pool-public"}
    values = public.one("Release", "charts-aws-load-balancer-controller")["values"]
    assert values["vpcId"] == exported("pool-public.lab")["vpc_id"]
    graph = program("platform-private.lab", gpu_stack="operator", device_plugin_image="", charts_elsewhere=["keda"])
    assert set(graph.of("Release")) == {*common, "charts-gpu-operator"} - {"charts-keda"}
    assert graph.one("Release", "charts-gpu-operator")["values"]["driver"] == {"enabled": True}


def test_the_lag_of_every_rule_is_fetched_by_the_exporter_with_an_identity_and_read_by_prometheus() -> None:
    release = program("platform-public.lab").one("Release", "charts-prometheus-yet-another-cloudwatch-exporter")
    asked = [
        (*(entry["value"] for entry in job["dimensions"]), *job["regions"])
        for job in json.loads(release["values"]["config"])["static"]
    ]
    rules = exported("storage-public.lab")["replication_rules"]
    assert len(asked) == 4
    assert sorted(asked) == sorted(
        tuple(rule[key] for key in ("source", "destination", "rule", "region")) for rule in rules
    )
    [whose] = [
        each
        for each in program("pool-public.lab").of("PodIdentityAssociation").values()
        if each["namespace"] == release["namespace"]
    ]
    assert whose["serviceAccount"] == release["values"]["serviceAccount"]["name"]
    monitor = program("serving-public.lab").one("ServiceMonitor", "monitoring-copies")["spec"]
    assert monitor["namespaceSelector"] == {"matchNames": [release["namespace"]]}


@pytest.mark.parametrize("stack", ["pool-public.lab", "platform-public.lab"])
def test_where_s3_copies_nothing_there_is_no_lag_to_watch(stack: str) -> None:
    recorded = {StackName.parse(other).qualified: exported(other) for other in below(StackName.parse(stack))}
    name = StackName.parse("storage-public.lab").qualified
    recorded[name] = {**recorded[name], "replication_rules": []}
    with pytest.raises(ValueError, match="copies_watched is true and S3 copies nothing of this site"):
        program(stack, recorded)
    program(stack, recorded, copies_watched=False)


def test_a_serving_stack_of_the_wrong_kind_names_the_missing_output() -> None:
    with pytest.raises(ValueError, match=r"edge_target_group_arn of pool-private\.lab is empty"):
        program("serving-private.lab", kind="public")


def test_a_key_outside_the_contract_cannot_be_read() -> None:
    with pytest.raises(ContractError, match="'password' is no output"):
        run(
            lambda: references.Recorded(StackName.parse("pool-private.lab")).text("password"),
            {"organization/tandem/pool-private.lab": {}},
        )


def test_pods_of_a_public_site_may_do_what_they_do_and_the_undo_of_a_drill_is_one_of_them() -> None:
    graph = program("pool-public.lab")
    accounts = {each["serviceAccount"]: each["roleArn"] for each in graph.of("PodIdentityAssociation").values()}
    rights = {
        account: json.loads(graph.one("RolePolicy", f"public-{account}")["policy"])["Statement"] for account in accounts
    }
    assert set(accounts) == {"triton", "gateway", "drill-lease", "aws-load-balancer-controller", "cloudwatch-exporter"}
    assert rights.pop("cloudwatch-exporter") == [
        {
            "Sid": "Lag",
            "Effect": "Allow",
            "Action": ["cloudwatch:GetMetricStatistics"],
            "Resource": "*",
            "Condition": {"StringEquals": {"aws:RequestedRegion": ["eu-west-1"]}},
        }
    ], "where the copies are, and nothing else"
    assert len(set(accounts.values())) == len(accounts), "each has a role of its own"
    assert exported("platform-public.lab")["lease_account"] in accounts
    stores = exported("storage-public.lab")
    models, marks = (f"arn:aws:s3:::{stores[bucket]}" for bucket in ("model_bucket", "signal_bucket"))
    may = {
        account: {(action, str(each["Resource"])) for each in rights[account] for action in each["Action"]}
        for account in rights
    }
    writes = {("s3:PutObject", f"{marks}/drain/*"), ("s3:DeleteObject", f"{marks}/drain/*")}
    assert may["drill-lease"] == {*writes, ("s3:GetObject", f"{marks}/drain/*"), ("s3:ListBucket", marks)}
    assert ("s3:GetObject", f"{marks}/drain/*") in may["gateway"], "its network may hide its address from the store"
    assert ("s3:GetObject", f"{models}/models/*") in may["gateway"] & may["triton"]
    assert not {action for each in ("gateway", "triton") for action, _ in may[each]} & {action for action, _ in writes}


def test_credentials_go_in_as_secrets_and_come_out_of_no_stack() -> None:
    for stack in STACKS:
        if "tandem:secret_key" in configuration(stack):
            graph = program(stack, access_key="canary-access", secret_key="canary-secret")
            assert "canary" not in json.dumps(graph.result)


def test_a_key_made_by_somebody_else_is_named_and_in_no_object_of_ours() -> None:
    named = {"access_key": "", "secret_key": "", "store_secret": "store-reader"}
    for lease, undo in (("", "store-reader"), ("store-marker", "store-marker")):
        graph = program("serving-private.lab", **named, lease_secret=lease)
        assert not graph.of("Secret")
        assert graph.result["lease_secret_name"] == undo
        for deployment in graph.of("Deployment").values():
            pod = deployment["spec"]["template"]["spec"]
            for container in (*pod["initContainers"], *pod["containers"]):
                refs = [entry["valueFrom"]["secretKeyRef"] for entry in container["env"] if "AWS" in entry["name"]]
                assert {each["name"] for each in refs} <= {"store-reader"}
                assert bool(refs) is (container["name"] in {"fetch", "gateway"}), container["name"]
    assert exported("serving-private.lab")["lease_secret_name"] == "store-credentials"
    own = program("serving-public.lab", access_key="", secret_key="")
    assert own.result["lease_secret_name"] == "", "pods of a public site have identities"


@pytest.mark.parametrize(("key", "asks"), [("", "tandem-private"), ("a-key", None)])
def test_a_store_may_be_opened_by_a_profile_of_the_machine_instead_of_a_key(key: str, asks: str | None) -> None:
    keys = {"access_key": key, "secret_key": key}
    graph = program("storage-private.lab", credentials_profile="tandem-private", **keys)
    assert graph.result["credentials_profile"] == "tandem-private"
    [provider] = graph.of("aws").values()
    assert (provider.get("profile"), "accessKey" in provider) == (asks, bool(key))


@pytest.mark.parametrize(("stack", "scheme"), [("serving-private", "https"), ("serving-public", "http")])
def test_what_a_gateway_speaks_is_told_to_whoever_asks_its_pods(stack: str, scheme: str) -> None:
    tls = {"tls_secret": "kept-elsewhere"} if scheme == "https" else {}
    graph = program(f"{stack}.lab", **tls)
    assert graph.result["gateway_scheme"] == scheme
    container = graph.one("Deployment", "gateway-deployment")["spec"]["template"]["spec"]["containers"][0]
    assert [port["name"] for port in container["ports"]] == [scheme]


def test_the_management_kubeconfig_is_in_no_output() -> None:
    config = configuration("pool-private.lab")["tandem:management_kubeconfig"]
    config = {**config, "users": [{"name": "private", "user": {"token": "canary"}}]}
    assert "canary" not in json.dumps(program("pool-private.lab", management_kubeconfig=config).result)


def test_sites_are_known_by_their_settings_files(tmp_path: Path) -> None:
    for stack in ("serving-private.lab", "serving-edge.lab", "serving-public.prod", "pool-other.lab"):
        (tmp_path / f"Pulumi.{stack}.yaml").touch()
    assert references.sites_with_settings("lab", tmp_path) == {"private", "edge"}


def test_a_site_judged_by_its_own_word_costs_what_its_alarm_takes() -> None:
    heard = {
        "site_checks": [{"site": "private", "via": "alarm", "treat_missing_data": "breaching"}],
        "signal_stores": ["public"],
    }
    graph = program("traffic.lab", **heard, objective_recovery_seconds=308)
    assert graph.one("MetricAlarm", "heard-private")["dimensions"] == {"Environment": "lab", "Site": "private"}
    check = graph.one("HealthCheck", "traffic-private")
    assert check["cloudwatchAlarmName"] == "heard-private-1234567"
    assert graph.result["sites"]["private"]["golden_check_id"] == "traffic-private-id", "one key, whoever says golden"
    with pytest.raises(SettingError, match=r"300 until the alarm of a silent site .* promise at least 308"):
        program("traffic.lab", **heard, objective_recovery_seconds=307)


def test_alarms_of_the_dns_service_are_in_its_region_and_reach_a_topic_there() -> None:
    graph = program("traffic.lab", region="eu-central-1", alarm_emails=["a@example.com"])
    regions = {name: state["region"] for name, state in graph.of("aws").items()}
    assert regions == {"aws": "eu-central-1", "aws-us-east-1": "us-east-1"}
    for kind, name in (
        ("MetricAlarm", "watch-public-ill"),
        ("Topic", "alarms-us-east-1"),
        ("LogGroup", "queries-group"),
    ):
        assert "::aws-us-east-1::" in graph.request(kind, name).provider, kind
    assert "::aws::" in graph.request("Zone", "traffic-zone").provider


def test_without_days_to_keep_them_queries_are_not_logged() -> None:
    assert program("traffic.lab").of("LogGroup")
    assert not program("traffic.lab", query_log_days=0).of("LogGroup")


def test_a_site_no_checker_reaches_says_itself_that_it_is_golden() -> None:
    silent = program("serving-private.lab")
    assert "heartbeat" not in silent.of("Deployment")
    speaking = program("serving-private.lab", heartbeat=[{"endpoint": "http://127.30.0.1:5000"}])
    assert "heartbeat" in speaking.of("Deployment")
    with pytest.raises(SettingError, match="a site says it one way"):
        program("serving-private.lab", heartbeat=[{}, {}])
