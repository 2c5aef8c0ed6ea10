"""What differs between two revisions' resources, what it does to them, and how it is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.policies.declared import UNKNOWN, Declared, StackDeclared
from stacks.contract import StackName
from stacks.preview import comment, digest, text
from stacks.preview.difference import ABSENT, Op, difference, walk
from stacks.preview.masking import MASK, Mask
from stacks.preview.replacement import Effect, verdict
from stacks.preview.report import HEAD, Report, report
from stacks.preview.revision import Evaluated, plain

STACK = "traffic.prod"
RECORD = "aws:route53/record:Record"
CLUSTER = "aws:eks/cluster:Cluster"
DEPLOYMENT = "kubernetes:apps/v1:Deployment"


def resource(name: str, kind: str = RECORD, **given: Any) -> Declared:
    inputs = given.pop("inputs", {})
    return Declared(stack=STACK, type=kind, name=name, urn=f"urn:{name}", inputs=inputs, **given)


def declared(*resources: Declared) -> StackDeclared:
    return StackDeclared(STACK, resources, {})


def only(old: Declared | None, new: Declared | None) -> Any:
    found = difference(STACK, declared(*filter(None, [old])), declared(*filter(None, [new])))
    assert len(found.changes) == 1
    return found.changes[0]


def told(old: StackDeclared, new: StackDeclared, secrets: frozenset[str] = frozenset()) -> Report:
    return report(
        "prod",
        [StackName.parse(STACK)],
        Evaluated({STACK: old}, secrets=secrets),
        Evaluated({STACK: new}, secrets=secrets),
        "HEAD~1",
    )


@pytest.mark.parametrize(
    ("kind", "path", "effect"),
    [
        (RECORD, "weightedRoutingPolicies[0].weight", Effect.UPDATE),
        (RECORD, "setIdentifier", Effect.REPLACE),
        (RECORD, "tags.a", Effect.UPDATE),
        (CLUSTER, "version", Effect.UPDATE),
        (CLUSTER, "name", Effect.REPLACE),
        (CLUSTER, "encryptionConfig.provider.keyArn", Effect.REPLACE),
        (CLUSTER, "computeConfig.enabled", Effect.MAY_REPLACE),
        ("aws:eks/nodeGroup:NodeGroup", "instanceTypes[0]", Effect.REPLACE),
        ("aws:eks/nodeGroup:NodeGroup", "launchTemplate.version", Effect.UPDATE),
        ("aws:mq/broker:Broker", "brokerName", Effect.MAY_REPLACE),
        ("aws:lb/loadBalancer:LoadBalancer", "securityGroups[0]", Effect.REPLACE),
        (DEPLOYMENT, "spec.replicas", Effect.UPDATE),
        (DEPLOYMENT, "spec.selector.matchLabels.app", Effect.REPLACE),
        (DEPLOYMENT, "metadata.name", Effect.REPLACE),
        (DEPLOYMENT, "metadata.namespaces", Effect.UPDATE),
        ("kubernetes:core/v1:ConfigMap", "data.x", Effect.REPLACE),
        ("kubernetes:helm.sh/v3:Release", "version", Effect.UPDATE),
        ("kubernetes:helm.sh/v3:Release", "name", Effect.REPLACE),
        ("pulumi:providers:kubernetes", "kubeconfig", Effect.MAY_REPLACE),
        ("pulumi:providers:aws", "region", Effect.MAY_REPLACE),
        ("pulumi:providers:aws", "defaultTags", Effect.UPDATE),
        ("random:index/id:Id", "length", Effect.MAY_REPLACE),
    ],
)
def test_a_change_is_judged_by_a_rule_or_left_to_the_provider(kind: str, path: str, effect: Effect) -> None:
    found = verdict(kind, path)
    assert found.effect is effect
    assert found.rule


def test_what_only_the_documentation_says_is_quoted() -> None:
    assert verdict("aws:lb/loadBalancer:LoadBalancer", "securityGroups").rule.startswith("the provider's documentation")


def test_one_weight_is_one_update_and_nothing_else() -> None:
    def sites(weight: int) -> StackDeclared:
        return declared(
            *(
                resource(site, inputs={"weightedRoutingPolicies": [{"weight": share}], "records": [UNKNOWN]})
                for site, share in (("private", weight), ("public", 30))
            )
        )

    found = difference(STACK, sites(70), sites(60))
    assert found.counts == {Op.UPDATE: 1, Op.SAME: 1}
    (change,) = found.changed
    assert [(each.path, each.old, each.new) for each in change.properties] == [
        ("weightedRoutingPolicies[0].weight", 70, 60)
    ]


def test_the_worst_of_several_changes_decides() -> None:
    old = resource("c", CLUSTER, inputs={"name": "a", "version": "1.33", "computeConfig": {"enabled": False}})
    new = resource("c", CLUSTER, inputs={"name": "a", "version": "1.34", "computeConfig": {"enabled": True}})
    assert only(old, new).op is Op.MAY_REPLACE
    renamed = resource("c", CLUSTER, inputs={"name": "b", "version": "1.34", "computeConfig": {"enabled": True}})
    assert only(old, renamed).op is Op.REPLACE


def test_a_replaced_resource_says_how_many_wait_for_it() -> None:
    def stack(name: str) -> StackDeclared:
        return declared(
            resource("c", CLUSTER, inputs={"name": name}),
            resource("n", "aws:eks/nodeGroup:NodeGroup", depends_on=frozenset({"urn:c"})),
        )

    found = difference(STACK, stack("a"), stack("b"))
    assert [change.dependents for change in found.changed] == [1]
    assert found.counts == {Op.REPLACE: 1, Op.SAME: 1}, "of the others nothing is claimed"


def test_what_somebody_else_keeps_is_no_change() -> None:
    old, new = (
        resource("d", DEPLOYMENT, inputs={"spec": {"replicas": number}}, ignores=frozenset({"spec.replicas"}))
        for number in (2, 3)
    )
    assert only(old, new).op is Op.SAME


def test_protection_is_a_change_of_the_engine_only() -> None:
    change = only(resource("r", protect=True), resource("r", protect=False))
    assert change.op is Op.UPDATE
    assert change.properties[0].path == "[protect]"


def test_made_and_deleted_resources_are_told_apart() -> None:
    assert only(None, resource("r")).op is Op.CREATE
    assert only(resource("r"), None).op is Op.DELETE


@pytest.mark.parametrize(
    ("old", "new", "paths"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, ["a"]),
        ({"a": 1}, {}, ["a"]),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, ["a.b[1]"]),
        ({"a": [1, 2]}, {"a": [1]}, ["a"]),
        ({"a": True}, {"a": 1}, ["a"]),
        ({"a": UNKNOWN}, {"a": UNKNOWN}, []),
        (
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
            {"env": [{"name": "C", "value": "3"}, {"name": "A", "value": "1"}, {"name": "B", "value": "9"}]},
            ["env[B].value", "env[C]"],
        ),
        ({"env": [{"name": "A"}, {"name": "B"}]}, {"env": [{"name": "B"}, {"name": "A"}]}, ["env[order]"]),
        ({"rules": [{"name": "A"}, {"name": "A"}]}, {"rules": [{"name": "A"}, {"name": "B"}]}, ["rules[1].name"]),
    ],
)
def test_differences_are_found_where_they_are(old: Any, new: Any, paths: list[str]) -> None:
    assert [path for path, _, _ in walk(old, new)] == paths


def test_an_absent_value_is_told_from_an_empty_one() -> None:
    assert list(walk({}, {"a": None})) == [("a", ABSENT, None)]


def test_marks_of_secrets_become_paths() -> None:
    mark = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "value": "s3cret"}
    found, secrets = plain({"data": {"password": mark}, "list": [1, mark]})
    assert found == {"data": {"password": "s3cret"}, "list": [1, "s3cret"]}
    assert secrets == {"data.password", "list[1]"}


def test_no_form_of_a_preview_holds_a_secret() -> None:
    canary = 'canary-"quoted"-1'

    def stack(value: str) -> StackDeclared:
        return declared(
            resource("secret", inputs={"data": {"password": value}}, secrets=frozenset({"data.password"})),
            resource("slip", inputs={"note": f"the password is {canary}", "deep": json.dumps({"k": value})}),
        )

    whole = told(stack("other-canary"), stack(canary), frozenset({canary, "other-canary"}))
    printed = [
        "\n".join(line.plain for line in text.lines(whole)),
        json.dumps(digest.document(whole)),
        comment.markdown(whole),
    ]
    for each in printed:
        assert "canary" not in each
        assert MASK in each
    fresh = report(
        "prod", [StackName.parse(STACK)], None, Evaluated({STACK: stack(canary)}, secrets=frozenset({canary})), ""
    )
    assert "canary" not in json.dumps(digest.document(fresh))


def test_a_mask_hides_the_longer_secret_before_the_shorter_one_in_it() -> None:
    assert Mask(["abcd", "abcdefgh"]).text("x abcdefgh abcd") == f"x {MASK} {MASK}"


def test_every_form_says_that_it_knows_no_state() -> None:
    whole = told(declared(resource("a")), declared(resource("b")))
    assert HEAD in next(iter(text.lines(whole))).plain
    assert digest.document(whole)["kind"] == HEAD
    assert HEAD in comment.markdown(whole)


def test_deletions_come_first_and_every_stack_has_its_marker() -> None:
    whole = told(declared(resource("z-gone")), declared(resource("a-made")))
    printed = "\n".join(line.plain for line in text.lines(whole))
    assert printed.index("z-gone") < printed.index("a-made")
    assert f"<!-- tandem-preview: {STACK} -->" in comment.markdown(whole)
    assert "<details open>" in comment.markdown(whole), "a deletion is not folded away"


def test_a_comment_stays_short_and_names_what_it_leaves_out() -> None:
    whole = told(declared(), declared(*(resource(f"record-{number}") for number in range(3000))))
    written = comment.markdown(whole)
    assert len(written) < 65_536
    assert "Too long for a comment" in written
    assert STACK in written


def test_a_stack_that_cannot_be_evaluated_fails_the_preview_and_says_why() -> None:
    broken = Evaluated({}, {STACK: ["peak_requests_per_second has no value"]})
    whole = report("prod", [StackName.parse(STACK)], Evaluated({STACK: declared(resource("a"))}), broken, "HEAD")
    assert whole.failed
    assert "peak_requests_per_second" in "\n".join(line.plain for line in text.lines(whole))
    assert whole.counts[Op.DELETE] == 0, "what cannot be evaluated is not called deleted"


def test_the_digest_has_the_shape_of_the_clis() -> None:
    old = resource("c", CLUSTER, inputs={"name": "a"})
    new = resource("c", CLUSTER, inputs={"name": "b"})
    stack = digest.document(told(declared(old), declared(new)))["stacks"][STACK]
    (step,) = stack["steps"]
    assert stack["changeSummary"] == {"replace": 1}
    assert step["op"] == "replace"
    assert step["replaceReasons"] == ["name"]
    assert step["detailedDiff"]["name"]["kind"] == "update-replace"
    assert step["oldState"]["inputs"] == {"name": "a"}


def test_a_secret_in_a_name_a_path_or_a_number_is_masked_too() -> None:
    canary = "canary-123456"
    old, new = (resource(f"topic-{canary}", inputs={"rules": [{"key": canary, "days": days}]}) for days in (1, 2))
    whole = told(declared(old), declared(new), frozenset({canary}))
    for printed in (
        "\n".join(line.plain for line in text.lines(whole)),
        json.dumps(digest.document(whole)),
        comment.markdown(whole),
    ):
        assert "canary" not in printed
    assert Mask(["123456789"]).value({"pin": 123456789}) == {"pin": MASK}
