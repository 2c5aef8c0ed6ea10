"""A third site is files: those of docs/add-a-site.md, made by the commands that stand there, and no line of code."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pulumi
import pytest

from infra import settings
from lab.members import table
from lab.topology import Topology
from stacks.contract import LAYERS, SITE_LAYERS, Deployment, StackName
from stacks.workspace import Workspace
from tests.infra.recording import Graph, run

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "add-a-site.md"
EXAMPLE = ROOT / "docs" / "third-site"
SITES = ("edge", "private", "public")
DIGEST = "sha256:" + "a" * 64


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The lab's tracked settings, and the third site's as the guide's own commands make them."""
    home = tmp_path_factory.mktemp("home")
    [commands] = re.findall(r"```sh third-site\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    weighed = 'cp docs/third-site/Pulumi.traffic.lab.yaml "$config/"\n'
    assert weighed in GUIDE.read_text(encoding="utf-8")
    subprocess.run(
        ["bash", "-euc", commands + weighed],
        cwd=ROOT,
        env={"TANDEM_HOME": str(home), "PATH": "/usr/bin:/bin"},
        check=True,
    )
    return Workspace("lab", ROOT, home)


@pytest.fixture(autouse=True)
def _no_config_left() -> Iterator[None]:
    yield
    pulumi.runtime.set_all_config({})


def below(name: StackName) -> list[StackName]:
    if name.layer == "traffic":
        return [name.sibling(layer, site) for layer in ("storage", "pool", "serving") for site in SITES]
    return [name.sibling(layer) for layer in SITE_LAYERS[: SITE_LAYERS.index(name.layer)]]


@cache
def program(workspace_home: Path, stack: str) -> Graph:
    name = StackName.parse(stack)
    recorded = {each.qualified: program(workspace_home, str(each)).result for each in below(name)}
    values = Workspace("lab", ROOT, workspace_home).settings(name)
    if name.layer == "serving":
        values["tandem:model_digest"] = DIGEST
    pulumi.runtime.set_all_config({k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items()})
    declare = importlib.import_module(f"stacks.{name.layer}").declare
    return run(lambda: declare(name, settings.read(name.layer, name.site)), recorded)


def test_the_third_site_has_its_stacks_in_the_order_of_the_others(workspace: Workspace) -> None:
    layers = workspace.order()
    assert [[str(stack) for stack in layer] for layer in layers] == [
        *([f"{layer}-{site}.lab" for site in SITES] for layer in SITE_LAYERS),
        ["traffic.lab"],
    ]


def test_every_program_of_the_third_site_exports_its_contract(workspace: Workspace) -> None:
    for layer in SITE_LAYERS:
        exported = program(workspace.home, f"{layer}-edge.lab").result
        LAYERS[layer].check_keys(exported)
        assert exported["site"] == "edge"


def test_users_are_led_to_three_sites_by_weight_and_health(workspace: Workspace) -> None:
    graph = program(workspace.home, "traffic.lab")
    weights = {
        name.removeprefix("traffic-"): graph.one("Record", name)["weightedRoutingPolicies"][0]["weight"]
        for name in (f"traffic-{site}" for site in SITES)
    }
    assert weights == {"private": 50, "public": 30, "edge": 20}
    assert graph.one("Record", "traffic-edge")["records"] == ["127.50.0.10"]
    by_record = {graph.one("Record", f"traffic-{site}")["healthCheckId"] for site in SITES}
    assert len(by_record) == len(SITES)


def test_a_mark_in_either_of_the_other_stores_drains_a_site(workspace: Workspace) -> None:
    graph = program(workspace.home, "traffic.lab")
    for site, endpoint in graph.result["sites"].items():
        others = sorted(set(SITES) - {site})
        assert endpoint["drain_stores"] == others
        assert len(endpoint["drain_check_ids"]) == len(endpoint["shadow_drain_check_ids"]) == len(others)
        calculated = graph.one("HealthCheck", f"traffic-{site}-serving")
        assert calculated["childHealthchecks"] == [endpoint["golden_check_id"], *endpoint["drain_check_ids"]]
        assert calculated["childHealthThreshold"] == 1 + len(others), "one mark is enough"


def test_a_drill_reads_three_sites(workspace: Workspace) -> None:
    stacks = [str(stack) for layer in workspace.order() for stack in layer]
    outputs = {stack: json.loads(json.dumps(program(workspace.home, stack).result)) for stack in stacks}
    deployment = Deployment.read("lab", outputs)
    assert set(deployment.traffic.sites) == set(deployment.serving) == set(SITES)


def test_the_third_site_counts_in_the_capacity_of_the_rest(workspace: Workspace) -> None:
    name = StackName.parse("traffic.lab")
    values = workspace.settings(name)
    recorded = {each.qualified: program(workspace.home, str(each)).result for each in below(name)}
    declare = importlib.import_module("stacks.traffic").declare
    for weights, carried in (
        ({"private": 50, "public": 50, "edge": 50}, True),
        ({"private": 50, "public": 50, "edge": 10}, False),
    ):
        given = {**values, "tandem:peak_requests_per_second": "170", "tandem:sites": weights}
        pulumi.runtime.set_all_config({k: v if isinstance(v, str) else json.dumps(v) for k, v in given.items()})
        if carried:
            run(lambda: declare(name, settings.read("traffic", None)), recorded)
        else:
            with pytest.raises(ValueError, match="without private, public gets 141"):
                run(lambda: declare(name, settings.read("traffic", None)), recorded)


def test_the_lab_has_processes_for_a_third_site_in_a_block_of_its_own() -> None:
    topology = Topology.from_json(json.loads((EXAMPLE / "topology.json").read_text(encoding="utf-8")))
    members = {member.name for member in table(topology, checkers=16, clock_factor=1.0)}
    assert {"store-edge", "site-edge", "edge-edge"} <= members
    default = Topology.default()
    assert {name: topology.sites[name] for name in default.sites} == default.sites
    assert topology.aws_url == default.aws_url
    assert len({site.block for site in topology.sites.values()}) == len(SITES)


def test_its_addresses_are_those_of_its_block(workspace: Workspace) -> None:
    topology = Topology.from_json(json.loads((EXAMPLE / "topology.json").read_text(encoding="utf-8")))
    edge = topology.site("edge")
    pool = program(workspace.home, "pool-edge.lab").result
    assert pool["edge_address"] == edge.edge_address
    assert edge.api_url in pool["kubeconfig"]
    assert program(workspace.home, "storage-edge.lab").result["endpoint"] == edge.store_url
