"""What differs between two revisions' resources, what it does to them, and how it is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.policies.declared import UNKNOWN, Declared, StackDeclared
from infra.policies.rule import Violation
from stacks.contract import StackName
from stacks.preview import comment, digest, text
from stacks.preview.difference import ABSENT, Op, difference, walk
from stacks.preview.effect import Effect
from stacks.preview.masking import MASK, Mask
from stacks.preview.replacement import verdict
from stacks.preview.report import HEAD, Report, report
from stacks.preview.revision import Evaluated, Settings, plain

STACK = "traffic.prod"
RECORD = "aws:route53/record:Record"
CLUSTER = "aws:eks/cluster:Cluster"
BALANCER = "aws:lb/loadBalancer:LoadBalancer"
VPC = "aws:ec2/vpc:Vpc"
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
        (RECORD, "name", Effect.REPLACE),
        (RECORD, "zoneId", Effect.REPLACE),
        (RECORD, "setIdentifier", Effect.UPDATE),
        (RECORD, "type", Effect.UPDATE),
        (RECORD, "latencyRoutingPolicies[0].region", Effect.UPDATE),
        (RECORD, "tags.a", Effect.UPDATE),
        (CLUSTER, "version", Effect.UPDATE),
        (CLUSTER, "name", Effect.REPLACE),
        (CLUSTER, "kubernetesNetworkConfig.ipFamily", Effect.REPLACE),
        (CLUSTER, "kubernetesNetworkConfig.elasticLoadBalancing.enabled", Effect.UPDATE),
        (CLUSTER, "kubernetesNetworkConfig", Effect.MAY_REPLACE),
        (CLUSTER, "remoteNetworkConfig.remotePodNetworks.cidrs[0]", Effect.REPLACE),
        (CLUSTER, "computeConfig.enabled", Effect.UPDATE),
        (CLUSTER, "kubeApiServerConfig", Effect.MAY_REPLACE),
        ("aws:eks/nodeGroup:NodeGroup", "instanceTypes[0]", Effect.REPLACE),
        ("aws:eks/nodeGroup:NodeGroup", "launchTemplate.version", Effect.UPDATE),
        ("aws:mq/broker:Broker", "brokerName", Effect.MAY_REPLACE),
        ("aws:kms/keyPolicy:KeyPolicy", "keyId", Effect.MAY_REPLACE),
        (BALANCER, "customerOwnedIpv4Pool", Effect.REPLACE),
        (BALANCER, "secondaryIpsAutoAssignedPerSubnet", Effect.REPLACE),
        (BALANCER, "accessLogs.bucket", Effect.UPDATE),
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
    found = verdict(kind, path, {}, {})
    assert found.effect is effect
    assert found.rule


def test_what_only_the_documentation_says_is_quoted() -> None:
    said = verdict(BALANCER, "secondaryIpsAutoAssignedPerSubnet", {}, {}).rule
    assert said.startswith("the provider's documentation says")


def encrypted(key: str) -> dict[str, Any]:
    return {"encryptionConfig": {"provider": {"keyArn": key}, "resources": ["secrets"]}}


def placed(*places: str, groups: tuple[str, ...] = ("sg-1",), kind: str = "network") -> dict[str, Any]:
    mappings = [{"subnetId": each, "allocationId": f"eip-{each}" if each != UNKNOWN else UNKNOWN} for each in places]
    return {"loadBalancerType": kind, "subnetMappings": mappings, "securityGroups": list(groups)}


@pytest.mark.parametrize(
    ("kind", "old", "new", "op"),
    [
        pytest.param(CLUSTER, {}, encrypted("a"), Op.UPDATE, id="a cluster begins to encrypt"),
        pytest.param(CLUSTER, encrypted("a"), {}, Op.REPLACE, id="a cluster stops to encrypt"),
        pytest.param(CLUSTER, encrypted("a"), encrypted("b"), Op.MAY_REPLACE, id="a cluster gets another key"),
        pytest.param(
            CLUSTER,
            {"computeConfig": {"enabled": True}},
            {"computeConfig": {"enabled": True, "nodeRoleArn": "a"}},
            Op.UPDATE,
            id="EKS's nodes get a first role",
        ),
        pytest.param(
            CLUSTER,
            {"computeConfig": {"nodeRoleArn": "a"}},
            {"computeConfig": {"nodeRoleArn": "b"}},
            Op.REPLACE,
            id="EKS's nodes get another role",
        ),
        pytest.param(BALANCER, placed("a", "b"), placed("a", "b", "c"), Op.UPDATE, id="one more subnet"),
        pytest.param(BALANCER, placed("a", "b"), placed("a"), Op.REPLACE, id="one subnet less"),
        pytest.param(BALANCER, placed("a", "b"), placed("a", "c"), Op.REPLACE, id="another subnet"),
        pytest.param(BALANCER, placed("a", "b"), placed("a", "c", "d"), Op.REPLACE, id="another subnet and one more"),
        pytest.param(
            BALANCER, placed(UNKNOWN), placed(UNKNOWN, UNKNOWN), Op.MAY_REPLACE, id="more subnets, unknown which"
        ),
        pytest.param(BALANCER, placed(UNKNOWN, UNKNOWN), placed(UNKNOWN), Op.REPLACE, id="one less, whichever"),
        pytest.param(BALANCER, placed("a"), placed("a", groups=("sg-2",)), Op.UPDATE, id="another security group"),
        pytest.param(BALANCER, placed("a"), placed("a", groups=()), Op.REPLACE, id="no security group any more"),
        pytest.param(BALANCER, placed("a", groups=()), placed("a"), Op.REPLACE, id="a first security group"),
        pytest.param(
            BALANCER,
            placed("a", kind="application"),
            placed("b", kind="application"),
            Op.MAY_REPLACE,
            id="a balancer of another type",
        ),
        pytest.param(
            VPC, {"instanceTenancy": "dedicated"}, {"instanceTenancy": "default"}, Op.UPDATE, id="undedicated"
        ),
        pytest.param(VPC, {"instanceTenancy": "default"}, {"instanceTenancy": "dedicated"}, Op.REPLACE, id="dedicated"),
        pytest.param(
            "aws:ec2/vpcEndpoint:VpcEndpoint",
            {"vpcEndpointType": "Gateway"},
            {"vpcEndpointType": "Gateway", "privateDnsEnabled": True},
            Op.REPLACE,
            id="private names of a gateway endpoint",
        ),
    ],
)
def test_where_both_values_decide_both_are_asked(kind: str, old: dict[str, Any], new: dict[str, Any], op: Op) -> None:
    assert only(resource("r", kind, inputs=old), resource("r", kind, inputs=new)).op is op


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
    old = resource("c", CLUSTER, inputs={"name": "a", "version": "1.33", "kubeApiServerConfig": {"qps": 1}})
    new = resource("c", CLUSTER, inputs={"name": "a", "version": "1.34", "kubeApiServerConfig": {"qps": 2}})
    assert only(old, new).op is Op.MAY_REPLACE
    renamed = resource("c", CLUSTER, inputs={"name": "b", "version": "1.34", "kubeApiServerConfig": {"qps": 2}})
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


def test_a_number_that_is_left_alone_and_goes_along_is_told_with_the_bounds_beside_it() -> None:
    def group(most: int) -> Declared:
        sizes = {"minSize": 1, "desiredSize": 2, "maxSize": most}
        ignored = frozenset({"scalingConfig.desiredSize"})
        kind = "aws:eks/nodeGroup:NodeGroup"
        return resource("g", kind, inputs={"scalingConfig": sizes, "labels": {"a": str(most % 2)}}, ignores=ignored)

    whole = told(declared(group(4)), declared(group(6)))
    assert whole.counts == {Op.UPDATE: 1}
    printed = "\n".join(line.plain for line in text.lines(whole))
    assert "scalingConfig.maxSize  4 -> 6" in printed
    assert "scalingConfig.desiredSize  left to whoever moves it" in printed
    (step,) = digest.document(whole)["stacks"][STACK]["steps"]
    assert "refresh the state" in step["detailedDiff"]["scalingConfig.desiredSize"]["rule"]
    assert only(group(4), group(4)).op is Op.SAME, "nothing is said of it while nothing changes"


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


def violated(number: int, length: int = 300) -> Report:
    urn = "urn:pulumi:prod::tandem::aws:s3/bucket:Bucket::bucket"
    wrong = tuple(Violation("bucket-encrypted", STACK, f"{urn}-{each}", "x" * length) for each in range(number))
    return Report("prod", "HEAD~1", told(declared(), declared(resource("a"))).stacks, wrong, 0, Mask([]))


def test_violations_however_many_leave_room_in_a_comment_for_what_changes() -> None:
    written = comment.markdown(violated(5_000))
    assert len(written) < 65_536
    assert f"<!-- tandem-preview: {STACK} -->" in written
    assert "more violations: run `tandem preview`" in written
    assert len(comment.markdown(violated(3, 70_000))) < 65_536, "one sentence may be longer than a comment"


def test_a_comment_about_more_stacks_than_it_can_name_is_still_one() -> None:
    some = declared(resource("record"))
    stacks = tuple(difference(f"serving-site-{number}.prod", declared(), some) for number in range(2_000))
    assert len(comment.markdown(Report("prod", "HEAD~1", stacks, (), 0, Mask([])))) < 65_536


def test_a_violated_rule_leads_to_its_own_words() -> None:
    whole = violated(1)
    here = comment.repository({"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "owner/tandem"})
    assert "https://github.com/owner/tandem/blob/HEAD/docs/policies.md#bucket-encrypted" in comment.markdown(
        whole, here
    )
    assert "(docs/policies.md#bucket-encrypted)" in comment.markdown(whole, comment.repository({}))
    assert digest.document(whole)["violations"][0]["documentation"] == "docs/policies.md#bucket-encrypted"
    assert "docs/policies.md" in "\n".join(line.plain for line in text.lines(whole))


def with_settings(old: dict[str, str], new: dict[str, str], *secret: str) -> Report:
    def given(values: dict[str, str]) -> Evaluated:
        masked = frozenset(values[key] for key in secret if key in values)
        return Evaluated(
            {STACK: declared()},
            {},
            masked,
            {STACK: Settings(values, frozenset(secret), frozenset(values) - {"tandem:default"})},
        )

    return report("prod", [StackName.parse(STACK)], given(old), given(new), "HEAD~1")


def test_settings_that_changed_are_told_in_every_form() -> None:
    whole = with_settings(
        {"tandem:sites": '{"private": {"weight": 70}}', "tandem:key": "canary-one", "tandem:gone": "1"},
        {"tandem:sites": '{"private": {"weight": 60}}', "tandem:key": "canary-two"},
        "tandem:key",
    )
    stack = digest.document(whole)["stacks"][STACK]
    assert stack["config"] == {"tandem:key": MASK, "tandem:sites": '{"private": {"weight": 60}}'}
    assert stack["configChanges"] == {
        "tandem:sites.private.weight": {"old": 70, "new": 60},
        "tandem:key": {"old": MASK, "new": MASK},
        "tandem:gone": {"old": 1},
    }
    printed = "\n".join(line.plain for line in text.lines(whole))
    for form in (printed, comment.markdown(whole)):
        assert "tandem:sites.private.weight  70 -> 60" in form
        assert f"tandem:key  {MASK} -> {MASK}" in form
        assert "canary" not in form


def test_a_secret_setting_too_short_to_be_searched_for_is_masked_in_its_place() -> None:
    def given(pin: str) -> Evaluated:
        pins = Settings({"tandem:pin": pin}, frozenset({"tandem:pin"}), frozenset({"tandem:pin"}))
        return Evaluated({STACK: declared()}, {}, frozenset(), {STACK: pins})

    whole = report("prod", [StackName.parse(STACK)], given("987"), given("654"), "HEAD~1")
    printed = json.dumps(digest.document(whole)) + comment.markdown(whole)
    assert "987" not in printed
    assert "654" not in printed
    assert digest.document(whole)["stacks"][STACK]["configChanges"]["tandem:pin"] == {"old": MASK, "new": MASK}


def test_a_default_that_changes_is_told_and_a_new_one_is_not() -> None:
    changed = with_settings({"tandem:default": "1"}, {"tandem:default": "2"})
    (setting,) = changed.stacks[0].settings
    assert (setting.path, setting.old, setting.new) == ("tandem:default", 1, 2)
    assert with_settings({}, {"tandem:default": "2"}).stacks[0].settings == ()


def test_equal_settings_are_no_change() -> None:
    whole = with_settings({"tandem:a": "1"}, {"tandem:a": "1"})
    assert "as before" in "\n".join(line.plain for line in text.lines(whole))
    assert digest.document(whole)["stacks"][STACK]["configChanges"] == {}


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
