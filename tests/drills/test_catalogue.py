"""Every drill there is: made for a deployment without a cluster to ask, whole, and at the level it may run at."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from drills import catalogue, node_loss, objective, switchover
from drills.choice import Choice
from drills.drill import Drill, Level, NotRun
from tests.drills.worlds import SITES, a_deployment

ASKED = [
    *(("switchover", fault) for fault in sorted(switchover.FAULTS)),
    *((name, "") for name in sorted(catalogue.CATALOGUE) if name != "switchover"),
]


def node(name: str) -> Any:
    return SimpleNamespace(
        metadata=SimpleNamespace(name=name, deletion_timestamp=None),
        spec=SimpleNamespace(provider_id=f"metal3://default/host-{name}/m"),
    )


def pod(name: str, on: str | None) -> Any:
    port = SimpleNamespace(container_port=8080)
    return SimpleNamespace(
        metadata=SimpleNamespace(name=name, deletion_timestamp=None),
        spec=SimpleNamespace(node_name=on, containers=[SimpleNamespace(ports=[port])]),
    )


@pytest.fixture(autouse=True)
def pods(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Gateways' pods as a site's cluster gives them."""
    found = [pod("a", "n1"), pod("b", "n1"), pod("c", "n2")]
    core = SimpleNamespace(
        list_namespaced_pod=lambda *_, **__: SimpleNamespace(items=found), read_node=lambda name, **_: node(name)
    )
    monkeypatch.setattr(node_loss, "cluster", lambda *_: SimpleNamespace(core=core))
    return found


def made(name: str, fault: str = "", site: str = "private", level: Level = Level.LIVE) -> Drill:
    return catalogue.find(name, a_deployment(health_interval_seconds=1), Choice(site=site, fault=fault, level=level))


@pytest.mark.parametrize(("name", "fault"), ASKED)
def test_each_drill_has_a_claim_a_steady_state_and_stages_that_are_proved(name: str, fault: str) -> None:
    drill = made(name, fault)
    assert drill.name == catalogue.title(name, fault)
    assert "private" in drill.claim
    sites = {probe.site for probe in drill.steady}  # type: ignore[attr-defined]  # every probe of these asks a site
    assert sites == set(SITES), "what is steady is so at every site"
    assert [probe.name for probe in drill.abort] == ["golden answer of public", "public sheds nothing"]
    assert drill.stages
    for stage in drill.stages:
        assert stage.actions
        assert stage.symptom.name
        assert stage.bite_seconds > 0
        assert stage.effect_seconds > 0 or not stage.effect
    assert drill.stages[-1].restored, "what has to return is asked for at the end"
    assert len({id(each) for each in drill.objectives}) == len(drill.objectives) >= 5
    for action in drill.actions:
        assert action.name
        assert action.arguments["site"] == action.site


def test_a_machine_that_holds_every_gateway_is_not_switched_off(pods: list[Any]) -> None:
    pods[:] = [pod("a", "n1"), pod("b", "n1")]
    with pytest.raises(NotRun, match=r"all 2 gateways stand on n1.*delete pod b"):
        made("node-loss")
    pods[:] = [pod("a", "n1")]
    assert made("node-loss").avoid_nodes == ["n1"], "a site with one gateway has to find out what that means"


@pytest.mark.parametrize(("name", "fault"), ASKED)
def test_only_a_drill_that_hurts_nobody_runs_at_another_level_than_live(name: str, fault: str) -> None:
    expected = set(Level) if name == "drain" else {Level.LIVE}
    assert made(name, fault).levels == expected


@pytest.mark.parametrize(("name", "fault"), ASKED)
def test_a_fault_that_has_to_last_is_judged_by_whether_it_did(name: str, fault: str) -> None:
    drill = made(name, fault)
    lasting = all(stage.lasting for stage in drill.stages)
    assert (objective.lasted in drill.objectives) == lasting


def test_no_drill_is_left_out() -> None:
    assert sorted(catalogue.CATALOGUE) == [
        "control-plane-down",
        "drain",
        "failback",
        "node-loss",
        "pod-loss",
        "switchover",
    ]
    assert sorted(switchover.FAULTS) == ["blackhole", "down", "flapping", "partial", "slow"]


def test_a_drill_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(NotRun, match="'melt' is not known; there are control-plane-down, drain, failback"):
        made("melt")


def test_a_fault_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(NotRun, match="'melt' is not known; choose one of blackhole, down, flapping, partial, slow"):
        made("switchover", "melt")


def test_a_fault_of_a_drill_that_has_none_is_refused() -> None:
    with pytest.raises(NotRun, match="'down': drill drain has none to choose"):
        made("drain", "down")


@pytest.mark.parametrize("name", sorted(catalogue.CATALOGUE))
def test_a_site_that_is_not_declared_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(NotRun, match="'moon' is not declared; choose one of private, public"):
        made(name, site="moon")


def test_a_switchover_is_down_where_nothing_is_said() -> None:
    assert catalogue.title("switchover") == "switchover-down" == made("switchover").name


def test_a_drain_at_level_shadow_touches_only_the_shadow() -> None:
    drill = made("drain", level=Level.SHADOW)
    assert drill.shadow
    assert [action.name for action in drill.actions] == ["mark the shadow of private as drained in the store of public"]
    assert not made("drain").shadow


def test_a_node_is_lost_that_leaves_other_gateways_and_the_undo_stands_elsewhere() -> None:
    drill = made("node-loss")
    assert [action.name for action in drill.actions] == ["power off machine host-n2 of private"]
    assert drill.avoid_nodes == ["n2"]


def test_a_site_without_machines_of_its_own_loses_no_node() -> None:
    with pytest.raises(NotRun, match="choose a private site"):
        made("node-loss", site="public")


def test_gateways_that_stand_on_no_node_lose_none(pods: list[Any]) -> None:
    pods[:] = [pod("a", None)]
    with pytest.raises(NotRun, match="no gateway stands on a node"):
        made("node-loss")


@pytest.mark.parametrize("cidrs", [[], ["127.30.1.16/29"]], ids=["none", "one"])
def test_half_of_fewer_than_two_networks_is_cut_from_nobody(cidrs: list[str]) -> None:
    """Cutting off no network in particular would cut off everybody."""
    with pytest.raises(NotRun, match="this drill cuts half of two or more"):
        catalogue.find("switchover", a_deployment(checker_cidrs=cidrs), Choice(site="private", fault="partial"))


def test_half_of_the_checkers_are_cut_and_some_users_with_them() -> None:
    drill = made("switchover", "partial")
    [action] = drill.actions
    assert action.arguments["networks"] == ["127.30.1.16/29"]
    assert drill.source_addresses == ("", "", "", "127.30.1.17")


def test_a_local_address_is_one_this_machine_has() -> None:
    assert switchover.local_address(["192.0.2.0/24", "127.30.1.16/29"]) == "127.30.1.17"
    assert switchover.local_address(["192.0.2.0/24", "10.0.0.0/8"]) == "", "a large network is not walked through"
    assert switchover.local_address([]) == ""


def test_writes_are_refused_only_where_the_api_is_a_rehearsals_own() -> None:
    deployment = a_deployment()
    real = replace(deployment, traffic=replace(deployment.traffic, dns_api=""))
    with pytest.raises(NotRun, match="AWS itself"):
        catalogue.find("control-plane-down", real, Choice(site="private"))
