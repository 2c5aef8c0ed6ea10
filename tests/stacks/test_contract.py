"""The contract reads what stacks export, and refuses anything else."""

import pytest

from stacks.contract import ContractError, Deployment, PlatformOutputs, StackName

PLATFORM = {
    "site": "private",
    "namespace": "tandem",
    "priority_class": "serving",
    "gpu_quota": 4,
    "monitoring_namespace": "monitoring",
    "gpu_resource": "nvidia.com/gpu",
    "environment": "lab",
    "lease_account": "drill-lease",
    "lease_image": "drills@sha256:0",
}


def test_outputs_are_read_as_typed_values() -> None:
    assert PlatformOutputs.read(PLATFORM).namespace == "tandem"


@pytest.mark.parametrize(
    ("exported", "named"),
    [({key: PLATFORM[key] for key in ("site", "namespace")}, "priority_class"), ({**PLATFORM, "color": 1}, "color")],
    ids=["missing key", "unknown key"],
)
def test_a_missing_or_unknown_key_is_named(exported: dict[str, str], named: str) -> None:
    with pytest.raises(ContractError, match=named):
        PlatformOutputs.read(exported)


@pytest.mark.parametrize("name", ["storage-private.lab", "traffic.prod", "serving-edge-3.staging"])
def test_a_stack_name_survives_parsing(name: str) -> None:
    assert str(StackName.parse(name)) == name


@pytest.mark.parametrize(
    "name", ["storage.lab", "traffic-private.lab", "cache-private.lab", "storage-private", "storage-.lab", "pool-a."]
)
def test_a_name_no_stack_can_have_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no stack of this project"):
        StackName.parse(name)


def test_a_sibling_keeps_site_and_environment() -> None:
    stack = StackName.parse("serving-private.lab")
    assert str(stack.sibling("pool")) == "pool-private.lab"
    assert stack.sibling("traffic").qualified == "organization/tandem/traffic.lab"


def test_a_deployment_without_traffic_outputs_is_refused_with_the_remedy() -> None:
    with pytest.raises(ContractError, match="tandem up --env lab"):
        Deployment.read("lab", {"platform-private.lab": PLATFORM})
