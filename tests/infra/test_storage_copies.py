"""Replicas and backups: who copies what where, with which rights, and who is told when it fails."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra import access
from infra.backup import Backup, BackupArgs
from infra.bucket import Bucket, BucketArgs
from infra.bucket_life import Lock
from infra.replication import Copy, ReplicationArgs
from infra.residency import DataClass, ResidencyError
from infra.settings import StorageSettings
from stacks import storage
from stacks.contract import StackName
from tests.infra.recording import Graph, run

PUBLIC: dict[str, Any] = {
    "site": "public",
    "kind": "public",
    "region": "eu-central-1",
    "replication": "aws",
    "backup": "aws",
    "second_region": "eu-west-1",
}
ROLE = "arn:aws:iam::444455556666:role/tandem-backup"


def declared(**changes: Any) -> Graph:
    settings = StorageSettings(**{**PUBLIC, **changes})
    return run(lambda: storage.declare(StackName.parse("storage-public.prod"), settings))


def rules_of(graph: Graph) -> list[dict[str, str]]:
    found: list[dict[str, str]] = graph.result["replication_rules"]
    return found


def rules(graph: Graph, what: str = "models") -> dict[str, dict[str, Any]]:
    return {rule["id"]: rule for rule in graph.one("BucketReplicationConfig", f"public-{what}-replication")["rules"]}


def rights(graph: Graph, what: str = "models") -> dict[str, dict[str, Any]]:
    policy = json.loads(graph.one("RolePolicy", f"public-{what}-replication")["policy"])
    return {statement["Sid"]: statement for statement in policy["Statement"]}


@pytest.mark.parametrize("what", ["models", "events"])
def test_every_copy_is_timed_measured_and_under_its_own_key(what: str) -> None:
    found = rules(declared(), what)
    assert [(rule["id"], rule["priority"], rule["filter"]) for rule in found.values()] == [
        ("replica", 1, {"prefix": ""}),
        ("backup", 2, {"prefix": ""}),
    ]
    for rule in found.values():
        assert rule["status"] == "Enabled"
        assert rule["sourceSelectionCriteria"] == {"sseKmsEncryptedObjects": {"status": "Enabled"}}
        assert rule["destination"]["replicationTime"] == {"status": "Enabled", "time": {"minutes": 15}}
        assert rule["destination"]["metrics"] == {"status": "Enabled", "eventThreshold": {"minutes": 15}}
    keys = {name: rule["destination"]["encryptionConfiguration"]["replicaKmsKeyId"] for name, rule in found.items()}
    assert keys == {
        "replica": f"arn:aws:kms:::key/public-replica-{what}-key",
        "backup": f"arn:aws:kms:::key/public-{what}-backup-key",
    }


def test_a_deletion_reaches_the_replica_and_never_the_backup() -> None:
    found = rules(declared())
    assert {name: rule["deleteMarkerReplication"]["status"] for name, rule in found.items()} == {
        "replica": "Enabled",
        "backup": "Disabled",
    }
    assert "s3:ReplicateDelete" in rights(declared())["Replica"]["Action"]
    assert "s3:ReplicateDelete" not in rights(declared())["Backup"]["Action"]


def test_copies_stand_in_the_second_region_and_the_rules_at_their_source() -> None:
    graph = declared()
    for name in ("public-replica-models", "public-models-backup"):
        assert "::aws-eu-west-1::" in graph.request("Bucket", name).provider
    assert "::aws::" in graph.request("BucketReplicationConfig", "public-models-replication").provider


def test_the_role_reads_one_bucket_and_writes_its_copies_and_nothing_else() -> None:
    found = rights(declared())
    assert {name: statement["Resource"] for name, statement in found.items()} == {
        "Configuration": "arn:aws:s3:::public-models-1234567",
        "Versions": "arn:aws:s3:::public-models-1234567/*",
        "SourceKey": "arn:aws:kms:::key/public-models-key",
        "Replica": "arn:aws:s3:::public-replica-models-1234567/*",
        "ReplicaKey": "arn:aws:kms:::key/public-replica-models-key",
        "Backup": "arn:aws:s3:::public-models-backup-1234567/*",
        "BackupKey": "arn:aws:kms:::key/public-models-backup-key",
    }
    assert not [action for statement in found.values() for action in statement["Action"] if "*" in action]
    assert found["SourceKey"]["Condition"]["StringEquals"] == {
        "kms:ViaService": "s3.eu-central-1.amazonaws.com",
        "kms:EncryptionContext:aws:s3:arn": "arn:aws:s3:::public-models-1234567",
    }
    assert found["BackupKey"]["Condition"]["StringEquals"]["kms:ViaService"] == "s3.eu-west-1.amazonaws.com"


def test_locks_are_read_only_where_there_are_some() -> None:
    graph = declared()
    assert "s3:GetObjectRetention" in rights(graph)["Versions"]["Action"]
    assert "s3:GetObjectRetention" not in rights(graph, "events")["Versions"]["Action"]


def test_a_rule_comes_after_everything_it_rests_on() -> None:
    waits = " ".join(declared().request("BucketReplicationConfig", "public-models-replication").dependencies)
    needed = ("public-models-versioning", "public-models-backup-versioning", "RolePolicy::public-models-replication")
    assert [each for each in needed if each not in waits] == []


def test_replicas_and_backups_are_chosen_apart() -> None:
    assert set(rules(declared(backup="none"))) == {"replica"}
    assert set(rules(declared(replication="external"))) == {"backup"}
    alone = declared(replication="none", backup="none", second_region="")
    assert not alone.of("BucketReplicationConfig")
    assert set(alone.of("Bucket")) == {"public-models", "public-events", "public-raw-events", "public-signals"}


def test_what_is_backed_up_is_locked_and_protected() -> None:
    graph = declared(lock_mode="compliance", lock_days=90)
    for name in ("public-models-backup", "public-events-backup"):
        lock = graph.one("BucketObjectLockConfiguration", f"{name}-lock")["rule"]["defaultRetention"]
        assert (lock["mode"], lock["days"]) == ("COMPLIANCE", 90)
        assert graph.one("Bucket", name)["objectLockEnabled"] is True
        assert graph.request("Bucket", name).protect is True
        assert graph.request("Key", f"{name}-key").protect is True


def test_a_backup_of_another_account_takes_copies_and_gives_nothing_away() -> None:
    graph = declared(backup_role=ROLE)
    assert "::aws-eu-west-1-other-account::" in graph.request("Bucket", "public-models-backup").provider
    assert "::aws-eu-west-1::" in graph.request("Bucket", "public-replica-models").provider
    destination = rules(graph)["backup"]["destination"]
    assert (destination["account"], destination["accessControlTranslation"]) == (
        "444455556666",
        {"owner": "Destination"},
    )
    assert "s3:ObjectOwnerOverrideToBucketOwner" in rights(graph)["Backup"]["Action"]
    policy = json.loads(graph.one("BucketPolicy", "public-models-backup-policy")["policy"])
    said = {statement["Sid"]: statement for statement in policy["Statement"]}
    writer = "arn:aws:iam:::role/public-models-replication"
    assert said["Copies"]["Principal"] == {"AWS": writer}
    assert not [action for action in said["Copies"]["Action"] if "Delete" in action or "*" in action]
    assert {"s3:DeleteObjectVersion", "s3:BypassGovernanceRetention"} <= set(said["NothingIsTakenAway"]["Action"])
    assert {"s3:PutBucketPolicy", "s3:PutLifecycleConfiguration"} <= set(said["NothingIsReconfigured"]["Action"])
    assert "aws:PrincipalAccount" in said["NothingIsTakenAway"]["Condition"]["StringEquals"]
    key = json.loads(graph.one("KeyPolicy", "public-models-backup-key")["policy"])
    assert {"AWS": [writer]} in [statement["Principal"] for statement in key["Statement"]]
    assert len(json.loads(graph.one("KeyPolicy", "public-replica-models-key")["policy"])["Statement"]) == 2


def test_a_backup_without_a_lock_is_refused() -> None:
    with pytest.raises(ValueError, match="a backup has no lock"):
        BackupArgs(
            bucket=BucketArgs(region="eu-west-1"), classes=(DataClass.MODELS,), writer="arn", other_account=False
        )
    locked = BucketArgs(region="eu-west-1", lock=Lock(mode="governance", days=1))
    args = BackupArgs(bucket=locked, classes=(DataClass.MODELS,), writer="arn", other_account=False)
    assert run(lambda: Backup("x", args).bucket).result == "x-backup-1234567"


def test_somebody_is_told_of_what_was_not_copied_and_of_what_is_late() -> None:
    assert not declared().of("MetricAlarm")
    graph = declared(alarm_emails=("oncall@tandem.example",))
    alarms = graph.of("MetricAlarm")
    assert set(alarms) == {
        f"public-{what}-{copy}-{state}"
        for what in ("models", "events")
        for copy in ("replica", "backup")
        for state in ("failed", "late")
    }
    failed = alarms["public-models-backup-failed"]
    assert (failed["metricName"], failed["threshold"]) == ("OperationsFailedReplication", 0)
    assert failed["dimensions"] == {
        "SourceBucket": "public-models-1234567",
        "DestinationBucket": "public-models-backup-1234567",
        "RuleId": "backup",
    }
    late = alarms["public-models-backup-late"]
    assert (late["threshold"], late["dimensions"], failed["treatMissingData"]) == (
        900,
        failed["dimensions"],
        "notBreaching",
    )


def test_each_alarm_stands_where_s3_tells_its_metric_and_reaches_a_topic_there() -> None:
    graph = declared(alarm_emails=("oncall@tandem.example",), backup_role=ROLE)
    for what in ("models", "events"):
        for state, provider, topic in (
            ("failed", "::aws::", "public-storage"),
            ("late", "::aws-eu-west-1::", "public-storage-eu-west-1"),
        ):
            for copy in ("replica", "backup"):
                name = f"public-{what}-{copy}-{state}"
                assert provider in graph.request("MetricAlarm", name).provider, "in the account of the source"
                assert graph.one("MetricAlarm", name)["alarmActions"] == [f"arn:aws:sns:::{topic}"]
            assert provider in graph.request("Topic", topic).provider


def test_every_rule_is_exported_for_whoever_watches_it() -> None:
    graph = declared(raw_events_may_leave=True)
    declared_rules = {
        (source, rule["destination"]["bucket"].removeprefix("arn:aws:s3:::"), rule["id"], "eu-west-1")
        for config in graph.of("BucketReplicationConfig").values()
        for source in [config["bucket"]]
        for rule in config["rules"]
    }
    exported = [tuple(rule[key] for key in ("source", "destination", "rule", "region")) for rule in rules_of(graph)]
    assert len(exported) == len(declared_rules) == 5
    assert set(exported) == declared_rules
    assert rules_of(declared(replication="none", backup="none", second_region="")) == []


BUCKET, KEY = "arn:aws:s3:::models", "arn:aws:kms:eu-central-1:111122223333:key/k"
SIGNALS = "arn:aws:s3:::signals"


def actions(policy: dict[str, Any]) -> set[str]:
    return {action for statement in policy["Statement"] for action in statement["Action"]}


def test_each_role_may_do_what_it_does_and_no_more() -> None:
    assert actions(access.read_models(BUCKET, KEY, "eu-central-1")) == {
        "s3:GetObject",
        "s3:GetObjectVersion",
        "s3:ListBucket",
        "kms:Decrypt",
    }
    assert actions(access.publish_models(BUCKET, KEY, "eu-central-1")) == {
        "s3:GetObject",
        "s3:PutObject",
        "s3:ListBucket",
        "kms:Decrypt",
        "kms:GenerateDataKey",
    }
    assert actions(access.mark_drains(BUCKET)) == {"s3:DeleteObject", "s3:GetObject", "s3:PutObject", "s3:ListBucket"}
    gateway = access.answer_users(BUCKET, SIGNALS, KEY, "eu-central-1")
    assert actions(gateway) == actions(access.read_models(BUCKET, KEY, "eu-central-1"))
    assert [each["Sid"] for each in gateway["Statement"]] == ["Fetch", "Look", "List", "Key"], "IAM takes each Sid once"
    assert actions(access.write_events(BUCKET)) == {"s3:PutObject"}


@pytest.mark.parametrize(
    "policy",
    [
        access.read_models(BUCKET, KEY, "eu-central-1"),
        access.answer_users(BUCKET, SIGNALS, KEY, "eu-central-1"),
        access.publish_models(BUCKET, KEY, "eu-central-1"),
        access.mark_drains(BUCKET),
        access.operate(BUCKET),
        access.write_events(BUCKET, KEY, "eu-central-1"),
    ],
    ids=["read", "answer", "publish", "mark", "operate", "ship"],
)
def test_no_role_reaches_beyond_its_bucket_and_its_key(policy: dict[str, Any]) -> None:
    for statement in policy["Statement"]:
        named = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        assert all(each.startswith((BUCKET, KEY, f"{SIGNALS}/drain/")) or each == SIGNALS for each in named), statement
        assert not [action for action in statement["Action"] if "*" in action]
        if statement["Resource"] == KEY:
            assert statement["Condition"]["StringEquals"]["kms:EncryptionContext:aws:s3:arn"] == BUCKET


def test_where_a_store_encrypts_by_itself_no_key_is_granted() -> None:
    assert "kms:Decrypt" not in actions(access.read_models(BUCKET))


def bucket(*, locked: bool = False) -> Bucket:
    empty: Any = ""
    return Bucket(name=empty, arn=empty, key_arn=empty, locked=locked, settings=())


def replication(classes: tuple[DataClass, ...], source: Bucket, copied: Bucket, *, allowed: bool = False) -> None:
    ReplicationArgs(
        source=source,
        source_region="eu-central-1",
        classes=classes,
        raw_events_may_leave=allowed,
        role=None,  # type: ignore[arg-type]  # nothing is declared
        copies=(Copy(purpose="replica", bucket=copied, region="eu-west-1", deletions=True),),
    )


def test_a_replication_of_raw_events_is_refused_when_it_is_constructed() -> None:
    with pytest.raises(ResidencyError, match="holds raw-events"):
        replication((DataClass.RAW_EVENTS,), bucket(), bucket())
    replication((DataClass.RAW_EVENTS,), bucket(), bucket(), allowed=True)


def test_a_locked_bucket_is_copied_into_a_locked_one_only() -> None:
    with pytest.raises(ValueError, match="lock the copy too"):
        replication((DataClass.MODELS,), bucket(locked=True), bucket())
    replication((DataClass.MODELS,), bucket(locked=True), bucket(locked=True))
