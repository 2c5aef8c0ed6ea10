"""The pods of a site: what their manifests promise."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from infra import gateway, pod
from infra.checks import SettingError
from infra.gateway import Gateway, GatewayArgs, TargetGroup, VirtualAddress, triton_variable
from infra.lease import Lease, LeaseArgs
from infra.platform import Platform, PlatformArgs
from infra.rolling import ONE_LESS, ONE_MORE
from infra.termination import ending
from infra.tls import ServerCertificate, ServerCertificateArgs
from infra.triton import Triton, TritonArgs
from tests.infra.recording import Graph, run

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
IMAGE = f"ghcr.io/tandem-recommender/serving@{DIGEST}"
SOURCE = pod.ModelSource(
    image=IMAGE,
    endpoint="http://store.example:9000",
    region="eu-central-1",
    bucket="models",
    model_name="recommender",
    credentials_secret="store-credentials",
)
TRITON = TritonArgs(
    site="private",
    namespace="tandem",
    priority_class="tandem-serving",
    image=IMAGE,
    model=SOURCE,
    digest=DIGEST,
    backend="cpu",
    replicas=2,
    rolling=ONE_LESS,
    ending=ending("triton", pause_seconds=0, exit_seconds=10, rest_seconds=5),
    gpus_per_pod=1,
    rollout_timeout_seconds=600,
    gpu_resource="nvidia.com/gpu",
    cpu="250m",
    memory="512Mi",
)
GATEWAY = GatewayArgs(
    site="private",
    namespace="tandem",
    priority_class="tandem-serving",
    image=IMAGE,
    model=SOURCE,
    accepted_digests=(DIGEST,),
    backend="cpu",
    replicas=2,
    ending=ending("gateway", pause_seconds=0, exit_seconds=4, rest_seconds=5),
    port=8080,
    edge_port=8080,
    edge=VirtualAddress(annotations={"metallb.io/loadBalancerIPs": "192.0.2.10"}, traffic_policy="Local"),
    triton_service="triton",
    health_token="token",
    drain_url="http://store.example:9000/signals/drain/private",
    drain_token="mark",
    concurrency_limit=16,
    golden_interval_seconds=2,
    hold_down_seconds=20,
    request_timeout_seconds=1.0,
    rollout_timeout_seconds=600,
    gpu_resource="nvidia.com/gpu",
    cpu="100m",
    memory="256Mi",
)


def triton_graph(**changes: Any) -> Graph:
    return run(lambda: Triton("triton", replace(TRITON, **changes)).deployment)


def gateway_graph(**changes: Any) -> Graph:
    return run(lambda: Gateway("gateway", replace(GATEWAY, **changes)).deployment)


def pod_of(graph: Graph) -> dict[str, Any]:
    spec: dict[str, Any] = graph.one("Deployment")["spec"]["template"]["spec"]
    return spec


BOTH = pytest.mark.parametrize("graph_of", [triton_graph, gateway_graph], ids=["triton", "gateway"])


@BOTH
def test_a_pod_has_no_privilege(graph_of: Any) -> None:
    spec = pod_of(graph_of())
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    for container in spec["initContainers"] + spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@BOTH
def test_every_mount_names_a_volume_and_only_the_fetcher_writes_the_model(graph_of: Any) -> None:
    spec = pod_of(graph_of())
    volumes = {volume["name"] for volume in spec["volumes"]}
    for container in spec["initContainers"] + spec["containers"]:
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        [models] = [mount for mount in container["volumeMounts"] if mount["name"] == "models"]
        assert models["readOnly"] is (container["name"] != "fetch")


@BOTH
def test_a_pod_starts_with_the_verified_model_of_the_declared_digest(graph_of: Any) -> None:
    [fetch] = pod_of(graph_of())["initContainers"]
    assert fetch["command"] == ["python", "-m", "serving.fetch"]
    args = fetch["args"]
    given = dict(zip(args[::2], args[1::2], strict=True))
    assert given["--digest"] == DIGEST
    assert given["--bucket"] == "models"
    assert given["--into"] == "/models"
    assert {entry["name"] for entry in fetch["env"] if "valueFrom" in entry} == {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
    }


def test_a_pod_with_an_identity_of_its_own_gets_no_key() -> None:
    own = replace(SOURCE, credentials_secret=None)
    for graph in (triton_graph(model=own), gateway_graph(model=own)):
        spec = pod_of(graph)
        assert [entry["name"] for entry in spec["initContainers"][0]["env"]] == ["TMPDIR"]
        assert not [entry for entry in spec["containers"][0]["env"] if entry["name"].startswith("AWS_")]


def test_a_gateway_asks_its_store_for_the_drain_mark_with_the_key_its_model_was_fetched_with() -> None:
    said = {entry["name"]: entry for entry in pod_of(gateway_graph())["containers"][0]["env"]}
    assert said["DRAIN_REGION"]["value"] == SOURCE.region
    assert said["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"] == {
        "name": "store-credentials",
        "key": "secret_key",
    }
    assert not [name for name in said if name in {"access_key", "secret_key"}]


@BOTH
def test_every_container_says_what_it_needs(graph_of: Any) -> None:
    spec = pod_of(graph_of())
    for container in spec["initContainers"] + spec["containers"]:
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert "memory" in container["resources"]["limits"]
        assert container["image"].count("@sha256:") == 1


@BOTH
def test_three_probes_ask_ports_the_container_has(graph_of: Any) -> None:
    [server] = pod_of(graph_of())["containers"]
    ports = {port["name"] for port in server["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert server[probe]["httpGet"]["port"] in ports


@BOTH
def test_a_pod_ends_as_its_ending_says(graph_of: Any) -> None:
    told = ending("triton", pause_seconds=31, exit_seconds=12, rest_seconds=5, grace_seconds=60)
    spec = pod_of(graph_of(ending=told))
    [server] = spec["containers"]
    assert server["lifecycle"]["preStop"] == {"sleep": {"seconds": 31}}
    assert spec["terminationGracePeriodSeconds"] == 60
    if server["name"] == "triton":
        assert "--exit-timeout-secs=12" in server["args"]


@BOTH
def test_a_disruption_takes_one_pod_at_a_time(graph_of: Any) -> None:
    graph = graph_of()
    budget = graph.one("PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == graph.one("Deployment")["spec"]["selector"]
    assert graph.without_parent() == set()


@BOTH
def test_what_a_drill_scales_the_next_up_takes_back(graph_of: Any) -> None:
    assert graph_of().one("Deployment")["metadata"]["annotations"] == {"pulumi.com/patchForce": "true"}


@BOTH
def test_pods_are_found_by_what_selects_them(graph_of: Any) -> None:
    graph = graph_of()
    deployment = graph.one("Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"].items() <= labels.items()
    assert graph.one("Service")["spec"]["selector"].items() <= labels.items()
    for constraint in deployment["template"]["spec"]["topologySpreadConstraints"]:
        assert constraint["labelSelector"]["matchLabels"].items() <= labels.items()


def test_triton_is_ready_when_its_model_is_and_opens_no_control_api() -> None:
    [server] = pod_of(triton_graph())["containers"]
    assert server["readinessProbe"]["httpGet"]["path"] == "/v2/models/recommender/ready"
    assert server["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"
    assert "--model-control-mode=none" in server["args"]
    assert "--model-config-name=cpu" in server["args"]
    assert "/v2/health/ready" not in json.dumps(server)
    assert {f"--{name}-address=$(POD_IP)" for name in ("http", "grpc", "metrics")} <= set(server["args"])


@pytest.mark.parametrize(("gpus", "expected"), [(0, None), (2, "2")], ids=["without", "with"])
def test_gpus_are_requested_and_limited_alike(gpus: int, expected: str | None) -> None:
    [server] = pod_of(triton_graph(gpus_per_pod=gpus))["containers"]
    assert server["resources"]["requests"].get("nvidia.com/gpu") == expected
    assert server["resources"]["limits"].get("nvidia.com/gpu") == expected


def test_what_no_flag_turns_off_asks_for_a_word_nobody_outside_of_the_pod_knows() -> None:
    [server] = pod_of(triton_graph())["containers"]
    closed = "shared-memory,model-repository,trace,logging:tandem-closed=$(POD_UID)"
    assert {f"--http-restricted-api={closed}", f"--grpc-restricted-protocol={closed}"} <= set(server["args"])
    [uid] = [entry for entry in server["env"] if entry["name"] == "POD_UID"]
    assert uid["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.uid"}}
    assert [port["name"] for port in triton_graph().one("Service")["spec"]["ports"]] == ["grpc", "metrics"]


def test_an_up_leaves_the_number_of_servers_to_their_scaler_where_there_is_one() -> None:
    scaled, fixed = triton_graph(autoscaled=True), triton_graph()
    assert list(scaled.request("Deployment", "triton-deployment").ignoreChanges) == ["spec.replicas"]
    assert list(fixed.request("Deployment", "triton-deployment").ignoreChanges) == []
    assert scaled.one("Deployment")["spec"]["replicas"] == 2, "what it begins with"


def test_triton_is_replaced_as_its_gpus_allow_and_one_of_the_gateways_never_misses() -> None:
    assert triton_graph().one("Deployment")["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}
    with_room = triton_graph(rolling=ONE_MORE).one("Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert with_room == {"maxUnavailable": 0, "maxSurge": 1}
    rolling = gateway_graph().one("Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxUnavailable": 0, "maxSurge": 1}


def test_the_gateway_is_ready_by_its_golden_result_and_never_restarted_for_it() -> None:
    [server] = pod_of(gateway_graph())["containers"]
    assert server["readinessProbe"]["httpGet"]["path"] == gateway.READY_PATH == "/readyz"
    assert server["livenessProbe"]["httpGet"]["path"] == server["startupProbe"]["httpGet"]["path"] == gateway.LIVE_PATH


def test_readiness_does_not_ask_what_the_dns_service_asks_or_a_hold_down_would_leave_no_pod_to_answer() -> None:
    [server] = pod_of(gateway_graph())["containers"]
    assert "/healthz" not in {server[probe]["httpGet"]["path"] for probe in server if probe.endswith("Probe")}


def test_the_gateway_is_told_all_it_has_to_know() -> None:
    [server] = pod_of(gateway_graph())["containers"]
    values = {entry["name"]: entry.get("value") for entry in server["env"]}
    assert values["ACCEPTED_DIGESTS"] == DIGEST
    assert values["TRITON_URL"] == "$(TRITON_SERVICE_HOST):$(TRITON_SERVICE_PORT_GRPC)"
    assert values["HEALTH_TOKEN"] == "token"
    assert values["DRAIN_URL"] == "http://store.example:9000/signals/drain/private"
    assert values["DRAIN_TOKEN"] == "mark"
    assert values["CONCURRENCY_LIMIT"] == "16"
    assert values["HOLD_DOWN_SECONDS"] == "20"
    assert values["SITE"] == "private"
    assert set(values) >= {"POD_IP", "PORT", "MODEL_DIR", "MODEL_NAME", "GOLDEN_INTERVAL_SECONDS"}


def test_a_gateway_that_ends_tls_is_asked_over_tls_and_follows_its_secret() -> None:
    graph = gateway_graph(tls_secret="gateway-tls")
    spec = pod_of(graph)
    [server] = spec["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert server[probe]["httpGet"]["scheme"] == "HTTPS"
    [volume] = [volume for volume in spec["volumes"] if volume["name"] == "tls"]
    assert volume["secret"] == {"secretName": "gateway-tls", "defaultMode": 0o440}
    [mount] = [mount for mount in server["volumeMounts"] if mount["name"] == "tls"]
    assert mount == {"name": "tls", "mountPath": "/tls", "readOnly": True}, "a subPath would stay as it was"
    values = {entry["name"]: entry.get("value") for entry in server["env"]}
    assert (values["TLS_CERTIFICATE"], values["TLS_KEY"]) == ("/tls/tls.crt", "/tls/tls.key")
    [port] = graph.one("Service")["spec"]["ports"]
    assert (port["targetPort"], server["ports"][0]["name"]) == ("https", "https")
    plain = json.dumps(pod_of(gateway_graph()))
    assert "tls" not in plain
    assert "HTTPS" not in plain


def test_a_certificate_is_for_the_names_users_ask_by_and_is_renewed_long_before_its_end() -> None:
    args = ServerCertificateArgs(
        site="private", namespace="tandem", issuer="letsencrypt", names=("a.example", "b.example")
    )
    graph = run(lambda: ServerCertificate("tls", args).secret)
    spec = graph.one("Certificate")["spec"]
    assert spec["dnsNames"] == ["a.example", "b.example"]
    assert spec["secretName"] == graph.result == "gateway-tls"
    assert (spec["duration"], spec["renewBefore"]) == ("2160h", "720h")
    assert spec["privateKey"]["rotationPolicy"] == "Always"
    assert graph.without_parent() == set()


def test_a_service_name_with_a_hyphen_becomes_a_variable() -> None:
    assert triton_variable("triton-a") == "$(TRITON_A_SERVICE_HOST):$(TRITON_A_SERVICE_PORT_GRPC)"


def test_a_virtual_address_is_asked_for_by_name() -> None:
    service = gateway_graph().one("Service")
    assert service["metadata"]["annotations"] == {"metallb.io/loadBalancerIPs": "192.0.2.10"}
    assert service["spec"]["type"] == "LoadBalancer"
    assert service["spec"]["externalTrafficPolicy"] == "Local", "or policies and logs see a node in a client's place"


def test_a_target_group_is_bound_to_the_service_at_its_port() -> None:
    graph = gateway_graph(edge=TargetGroup(arn="arn:tg"), edge_port=443)
    assert graph.one("Service")["spec"]["type"] == "ClusterIP"
    assert "externalTrafficPolicy" not in graph.one("Service")["spec"], "Kubernetes refuses it on a ClusterIP"
    binding = graph.one("TargetGroupBinding")["spec"]
    assert binding["targetGroupARN"] == "arn:tg"
    assert binding["serviceRef"] == {"name": "gateway", "port": 443}


@BOTH
def test_a_pod_of_a_lost_node_is_replaced_in_seconds_and_not_in_five_minutes(graph_of: Any) -> None:
    tolerated = {entry["key"]: entry for entry in pod_of(graph_of())["tolerations"]}
    assert tolerated["nvidia.com/gpu"] == {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    for state in ("not-ready", "unreachable"):
        lost = tolerated[f"node.kubernetes.io/{state}"]
        assert (lost["operator"], lost["effect"], lost["tolerationSeconds"]) == ("Exists", "NoExecute", 10)


def test_a_gateway_holds_the_golden_answers_of_every_accepted_version_and_triton_one_version() -> None:
    [fetch] = pod_of(gateway_graph(accepted_digests=(DIGEST, OTHER)))["initContainers"]
    assert [after for word, after in pairwise(fetch["args"]) if word == "--digest"] == [DIGEST, OTHER]
    [server] = pod_of(gateway_graph(accepted_digests=(DIGEST, OTHER)))["containers"]
    assert {"name": "ACCEPTED_DIGESTS", "value": f"{DIGEST},{OTHER}"} in server["env"]
    [fetch] = pod_of(triton_graph())["initContainers"]
    assert fetch["args"].count("--digest") == 1


@pytest.mark.parametrize("digests", [(), (OTHER, DIGEST), (DIGEST, DIGEST)], ids=["none", "out of order", "twice"])
def test_accepted_digests_have_one_spelling(digests: tuple[str, ...]) -> None:
    with pytest.raises(SettingError, match="accepted_digests"):
        replace(GATEWAY, accepted_digests=digests)


def lease_graph(machine_namespace: str | None = None) -> Graph:
    args = LeaseArgs(site="private", namespace="tandem", machine_namespace=machine_namespace)
    return run(lambda: Lease("private", args).account)


def test_an_undo_can_put_back_and_can_create_nothing() -> None:
    graph = lease_graph()
    [role] = graph.of("Role").values()
    verbs = {verb for rule in role["rules"] for verb in rule["verbs"]}
    assert verbs == {"get", "patch", "delete"}
    assert not [rule for rule in role["rules"] if "*" in rule["resources"] + rule["apiGroups"] + rule["verbs"]]
    deletable = {name for rule in role["rules"] if "delete" in rule["verbs"] for name in rule["resources"]}
    assert deletable == {"networkchaos"}
    assert "secrets" not in {name for rule in role["rules"] for name in rule["resources"]}
    binding = graph.one("RoleBinding")
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "drill-lease"}
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "drill-lease", "namespace": "tandem"}]
    assert graph.result == "drill-lease"
    assert graph.without_parent() == set()


def test_an_undo_switches_machines_only_where_they_are_in_its_cluster() -> None:
    graph = lease_graph(machine_namespace="machines")
    role = graph.one("Role", "private-lease-machines")
    assert role["metadata"]["namespace"] == "machines"
    assert role["rules"] == [{"apiGroups": ["metal3.io"], "resources": ["baremetalhosts"], "verbs": ["get", "patch"]}]
    [subject] = graph.one("RoleBinding", "private-lease-machines")["subjects"]
    assert subject["namespace"] == "tandem"


def platform_graph(**changes: Any) -> Graph:
    args = PlatformArgs(
        site="private",
        namespace="tandem",
        device_plugin_image=IMAGE,
        gpu_quota=4,
        quota_cpu="64",
        quota_memory="256Gi",
        quota_pods=100,
        namespace_labels={"tandem.io/environment": "lab"},
    )
    return run(lambda: Platform("private", replace(args, **changes)).namespace)


def test_the_namespace_admits_no_privileged_pod_and_a_bounded_amount_of_everything() -> None:
    graph = platform_graph()
    labels = graph.one("Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert labels["tandem.io/environment"] == "lab"
    hard = {"requests.cpu": "64", "requests.memory": "256Gi", "requests.nvidia.com/gpu": "4", "pods": "100"}
    assert graph.one("ResourceQuota")["spec"]["hard"] == hard
    assert graph.result == "tandem"
    assert graph.without_parent() == set()


def test_a_pod_that_asks_for_nothing_is_not_refused_by_the_quota() -> None:
    [limit] = platform_graph().one("LimitRange")["spec"]["limits"]
    assert set(limit["defaultRequest"]) == {"cpu", "memory"}
    assert limit["type"] == "Container"


def test_serving_comes_before_batch_and_batch_displaces_nobody() -> None:
    serving, batch = (platform_graph().one("PriorityClass", f"private-{name}") for name in ("priority", "batch"))
    assert serving["value"] > batch["value"]
    assert batch["preemptionPolicy"] == "Never"


def test_where_the_operator_offers_the_gpus_no_second_plugin_does() -> None:
    assert platform_graph(device_plugin_image="").of("DaemonSet") == {}


def test_the_device_plugin_runs_where_nothing_else_may_and_outside_the_restricted_namespace() -> None:
    plugin = platform_graph().one("DaemonSet")
    assert plugin["metadata"]["namespace"] == "kube-system"
    [toleration] = plugin["spec"]["template"]["spec"]["tolerations"]
    assert toleration == {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
