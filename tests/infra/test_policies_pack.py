"""The real CLI's side: what its SDK hands over becomes what rules read, and their verdicts become its reports."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from infra.policies.adapter import UNKNOWNS, plain, policies, resource_of, stack_of
from infra.policies.declared import UNKNOWN
from infra.policies.kept import KEY
from infra.policies.pool import LAUNCH_TEMPLATE
from infra.policies.rules import RULES
from infra.policies.storage import ACCESS_BLOCK, BLOCKS, BUCKET

ROOT = Path(__file__).resolve().parents[2]
PROD = "urn:pulumi:storage-private.prod::tandem::"


class UnknownValueError(Exception):
    """As the SDK has it: raised by whoever touches a value that cannot be known yet."""

    def __init__(self, sentinel: str, path: list[str]) -> None:
        super().__init__()
        self.message = f"{sentinel} at {path}"


class Guarded(Mapping[str, Any]):
    """A map that raises where something unknown is touched, as the SDK's does."""

    def __init__(self, held: dict[str, Any]) -> None:
        self.held = held

    def __getitem__(self, key: str) -> Any:
        return touched(self.held[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self.held)

    def __len__(self) -> int:
        return len(self.held)


class GuardedList(Sequence[Any]):
    def __init__(self, held: list[Any]) -> None:
        self.held = held

    def __getitem__(self, index: Any) -> Any:
        return touched(self.held[index])

    def __len__(self) -> int:
        return len(self.held)


def touched(value: Any) -> Any:
    if isinstance(value, str) and value in UNKNOWNS:
        raise UnknownValueError(value, [])
    return Guarded(value) if isinstance(value, dict) else GuardedList(value) if isinstance(value, list) else value


@dataclass
class Resource:
    """As a stack validation gets it; a resource validation has no parent and no dependencies."""

    resource_type: str
    name: str
    props: Any
    urn: str = ""
    opts: Any = field(default_factory=lambda: SimpleNamespace(protect=False, ignore_changes=[]))
    provider: Any = None
    parent: Any = None
    dependencies: list[Any] = field(default_factory=list)
    property_dependencies: dict[str, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.urn = self.urn or f"{PROD}{self.resource_type}::{self.name}"


@dataclass
class Policy:
    name: str
    description: str
    validate: Any

    def reports(self, args: Any) -> list[tuple[str, str | None]]:
        found: list[tuple[str, str | None]] = []
        self.validate(args, lambda message, urn=None: found.append((message, urn)))
        return found


class Alone(Policy):
    """A policy of one resource."""


SDK = SimpleNamespace(ResourceValidationPolicy=Alone, StackValidationPolicy=Policy)
MADE = {policy.name: policy for policy in policies(SDK, UnknownValueError)}


def test_guards_are_taken_off_and_what_is_not_known_is_marked() -> None:
    held = {"a": {"b": ["x", *sorted(UNKNOWNS)]}, "known": 1.0, "not": UNKNOWN}
    assert plain(Guarded(held), UnknownValueError) == {
        "a": {"b": ["x", *[UNKNOWN] * len(UNKNOWNS)]},
        "known": 1.0,
        "not": UNKNOWN,
    }


def test_a_resource_keeps_what_rules_go_by() -> None:
    parent = Resource("tandem:model_store:ModelStore", "models", Guarded({}))
    other, awaited = Resource(KEY, "key", Guarded({})), Resource(KEY, "waits", Guarded({}))
    found = resource_of(
        Resource(
            BUCKET,
            "models",
            Guarded({"forceDestroy": True}),
            opts=SimpleNamespace(protect=True, ignore_changes=["tags"]),
            provider=SimpleNamespace(urn="urn:provider"),
            parent=parent,
            dependencies=[other],
            property_dependencies={"bucket": [awaited]},
        ),
        UnknownValueError,
    )
    assert (found.stack, found.type, found.name) == ("storage-private.prod", BUCKET, "models")
    assert (found.inputs, found.protect) == ({"forceDestroy": True}, True)
    assert (found.parent, found.provider) == (parent.urn, "urn:provider")
    assert found.depends_on == {other.urn, awaited.urn}
    assert found.ignores == {"tags"}


def test_a_resource_alone_has_neither_parent_nor_dependencies() -> None:
    args = SimpleNamespace(
        resource_type=KEY,
        name="k",
        urn=f"{PROD}{KEY}::k",
        props={},
        opts=SimpleNamespace(protect=False, ignore_changes=[]),
        provider=None,
    )
    assert resource_of(args, UnknownValueError).depends_on == frozenset()


def test_the_outputs_of_a_stack_are_those_of_its_root() -> None:
    root = Resource("pulumi:pulumi:Stack", "tandem-storage-private.prod", Guarded({"site": "private"}))
    assert stack_of([root], UnknownValueError).outputs == {"site": "private"}
    assert stack_of([], UnknownValueError).resources == ()


def test_every_rule_but_the_one_about_secretness_is_a_policy_of_its_kind() -> None:
    assert set(MADE) == {rule.name for rule in RULES if not rule.secretness}
    assert {rule.name for rule in RULES if rule.secretness} == {"secrets-marked"}
    for rule in RULES:
        if rule.name in MADE:
            assert isinstance(MADE[rule.name], Alone) == (rule.over == "resource")
            assert MADE[rule.name].description == rule.says


def test_a_violation_is_reported_with_its_resource() -> None:
    key = Resource(KEY, "k", Guarded({"enableKeyRotation": False}))
    [(message, urn)] = MADE["key-rotates"].reports(key)
    assert "enableKeyRotation is False" in message
    assert urn == key.urn


def test_a_resource_that_keeps_to_the_rule_is_passed_over() -> None:
    assert MADE["key-rotates"].reports(Resource(KEY, "k", Guarded({"enableKeyRotation": True}))) == []


def test_what_hangs_on_an_unknown_value_is_raised_after_what_is_wrong_for_sure() -> None:
    options = {"metadataOptions": {"httpTokens": "required"}, "blockDeviceMappings": [{"ebs": {"encrypted": UNKNOWN}}]}
    template = Resource(LAUNCH_TEMPLATE, "t", Guarded(options))
    with pytest.raises(UnknownValueError) as raised:
        MADE["disk-encrypted"].reports(template)
    assert "ebs.encrypted is known after `up` only" in raised.value.message
    assert MADE["imds-v2"].reports(template) != []


@pytest.mark.parametrize(("switched", "broken"), [(True, 0), (False, 1)])
def test_a_stack_is_judged_as_a_whole(switched: bool, broken: int) -> None:
    bucket = Resource(BUCKET, "models", Guarded({"bucket": UNKNOWN}))
    block = Resource(
        ACCESS_BLOCK,
        "models-access",
        Guarded({"bucket": UNKNOWN, **dict.fromkeys(BLOCKS, switched)}),
        dependencies=[bucket],
    )
    found = MADE["public-access-blocked"].reports(SimpleNamespace(resources=[bucket, block]))
    assert len(found) == broken


def test_only_the_packs_own_program_builds_a_pack() -> None:
    """A pack serves until it is ended: whoever else made one would hang."""
    makers = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "infra").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "PolicyPack"
    ]
    assert makers == ["infra/policies/pack/__main__.py"]


def test_the_pack_says_how_it_is_run() -> None:
    project = yaml.safe_load((ROOT / "infra/policies/pack/PulumiPolicy.yaml").read_text(encoding="utf-8"))
    assert project["runtime"] == "python"
    assert (ROOT / "infra/policies/pack/__main__.py").exists()


def test_the_real_sdk_takes_the_policies_and_judges_by_them() -> None:
    sdk = pytest.importorskip("pulumi_policy", reason="the pack's SDK is needed by the real CLI only")
    from pulumi_policy.proxy import UnknownValueError as Unknown
    from pulumi_policy.proxy import unknown_checking_proxy

    made = {policy.name: policy for policy in policies(sdk, Unknown)}
    opts = sdk.PolicyResourceOptions(False, [], None, [], sdk.PolicyCustomTimeouts(0, 0, 0), [])

    def args(**props: Any) -> Any:
        guarded = unknown_checking_proxy(json.loads(json.dumps(props)))
        return sdk.ResourceValidationArgs(KEY, guarded, f"{PROD}{KEY}::k", "k", opts, None)

    reports: list[tuple[str, str | None]] = []

    def report(message: str, urn: str | None = None) -> None:
        reports.append((message, urn))

    made["key-rotates"].validate(args(enableKeyRotation=False), report)
    assert len(reports) == 1
    with pytest.raises(Unknown):
        made["key-rotates"].validate(args(enableKeyRotation=UNKNOWN), report)
    assert len(reports) == 1
