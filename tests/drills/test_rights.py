"""An undo that could not undo does not stand; and the account of a site may do what undos ask, no more."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from drills import rights
from drills.actions.network_chaos import NetworkChaos, delay
from drills.actions.network_policy import CutSources
from drills.actions.power import PowerOff
from drills.actions.scale import ScaleToZero
from drills.drill import DrillError
from drills.rights import Right, allowed, missing
from infra.lease import MACHINE_RIGHTS, RIGHTS
from tests.drills.worlds import Breaks, World, a_deployment

RIGHT = Right("apps", "deployments/scale", "tandem", "patch")


class Api:
    """A cluster that allows these, and what it was asked."""

    def __init__(self, *verbs: str, status: int = 0) -> None:
        self.verbs, self.status = verbs, status
        self.asked: list[dict[str, Any]] = []
        self.authorization = self

    def create_self_subject_access_review(self, review: dict[str, Any], **_: object) -> Any:
        if self.status:
            raise ApiException(status=self.status)
        self.asked.append(review["spec"]["resourceAttributes"])
        return SimpleNamespace(status=SimpleNamespace(allowed=self.asked[-1]["verb"] in self.verbs))


class Needs(Breaks):
    rights = [RIGHT]  # noqa: RUF012  one for the tests


def found(api: Api, action: Any) -> tuple[list[str], list[str]]:
    said: list[str] = []
    return asyncio.run(missing(api, "drill-1", [(action, {"broken": False})], said.append)), said  # type: ignore[arg-type]


def test_a_right_is_asked_for_with_its_subresource() -> None:
    api = Api("patch")
    assert allowed(api, RIGHT) is True  # type: ignore[arg-type]  # a cluster
    assert api.asked == [
        {"group": "apps", "resource": "deployments", "subresource": "scale", "namespace": "tandem", "verb": "patch"}
    ]


def test_a_right_that_is_missing_is_named() -> None:
    assert found(Api("patch"), Needs(World())) == ([], [])
    [why], _ = found(Api("get"), Needs(World()))
    assert why.startswith("no right to patch deployments/scale.apps in tandem")


def test_an_api_that_does_not_know_the_question_is_said_so_and_one_that_fails_counts() -> None:
    assert found(Api(status=404), Needs(World())) == (
        [],
        ["this API does not tell who may do what: rights are not looked at"],
    )
    [why], _ = found(Api(status=500), Needs(World()))
    assert "cannot ask for the right" in why


@pytest.mark.parametrize("part", ["residue", "try_undo"])
def test_an_undo_that_cannot_look_or_write_is_named(part: str) -> None:
    async def fails(*_: object) -> None:
        raise DrillError("no key")

    class Tries(Breaks):
        async def try_undo(self, name: str) -> None:
            assert name == "drill-1"

    assert found(Api(), Tries(World())) == ([], [])
    broken = type("Broken", (Tries,), {part: fails})
    assert found(Api(), broken(World())) == (["break the world: DrillError: no key"], [])


def test_the_account_of_a_site_has_the_rights_the_undos_ask_and_its_own_map() -> None:
    deployment = a_deployment()
    actions: list[Any] = [
        ScaleToZero.of(deployment, "private"),
        CutSources.of(deployment, "private"),
        NetworkChaos.between(deployment, "private", delay(1.0)),
        PowerOff.of(deployment, "private", "metal3://default/host-1/m"),
    ]
    assert all(isinstance(action, rights.NeedsRights) for action in actions)
    asked = {(each.group, each.resource, each.verb) for action in actions for each in action.rights}
    given = {
        (group, resource, verb)
        for group, resources, verbs in (*RIGHTS, *MACHINE_RIGHTS)
        for resource in resources
        for verb in verbs
    }
    assert given - asked == {("", "configmaps", "get"), ("", "configmaps", "patch")}
    assert asked <= given
