"""Which data may leave its site: said once, kept by components, settings and whatever publishes."""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

import release
from infra import residency
from infra.bucket import BucketArgs, declare_bucket
from infra.residency import DataClass, ResidencyError
from infra.settings import StorageSettings
from serving.manifest import FileEntry, Manifest
from stacks import storage
from stacks.contract import StackName
from tests.infra.recording import Graph, run

TAG = "tandem.io/data-class"
PUBLIC: dict[str, Any] = {
    "site": "public",
    "kind": "public",
    "region": "eu-central-1",
    "replication": "aws",
    "backup": "aws",
    "second_region": "eu-west-1",
}


def declared(**changes: Any) -> Graph:
    settings = StorageSettings(**{**PUBLIC, **changes})
    return run(lambda: storage.declare(StackName.parse("storage-public.prod"), settings))


def classes(graph: Graph) -> dict[str, str]:
    return {name: state["tags"][TAG] for name, state in graph.of("Bucket").items()}


def test_every_bucket_says_what_it_may_hold() -> None:
    assert classes(declared()) == {
        "public-models": "items+models",
        "public-events": "pseudonymised-events",
        "public-raw-events": "raw-events",
        "public-signals": "signals",
        "public-replica-models": "items+models",
        "public-replica-events": "pseudonymised-events",
        "public-models-backup": "backups+items+models",
        "public-events-backup": "backups+pseudonymised-events",
    }


def test_the_key_of_a_bucket_carries_the_same_tag() -> None:
    assert declared().one("Key", "public-raw-events-key")["tags"][TAG] == "raw-events"


def sources(graph: Graph) -> set[str]:
    return {state["bucket"] for state in graph.of("BucketReplicationConfig").values()}


def test_no_rule_copies_raw_events_unless_a_setting_lets_them_leave() -> None:
    assert sources(declared()) == {"public-models-1234567", "public-events-1234567"}
    assert sources(declared(raw_events_may_leave=True)) == {
        "public-models-1234567",
        "public-events-1234567",
        "public-raw-events-1234567",
    }


def test_raw_events_that_may_leave_are_in_no_backup_that_outlives_them() -> None:
    graph = declared(raw_events_may_leave=True)
    assert "public-replica-raw-events" in graph.of("Bucket")
    assert "public-raw-events-backup" not in graph.of("Bucket")
    [rule] = graph.one("BucketReplicationConfig", "public-raw-events-replication")["rules"]
    assert rule["id"] == "replica"


def test_a_bucket_without_a_class_is_refused() -> None:
    with pytest.raises(ResidencyError, match="without a data class"):
        declare_bucket("orphan", BucketArgs(region="eu-central-1"), None)  # type: ignore[arg-type]  # never reached


def test_a_tag_is_read_back_as_it_was_written_and_a_strange_one_is_refused() -> None:
    held = (DataClass.MODELS, DataClass.ITEMS)
    assert residency.classes(residency.tags(held)[TAG]) == set(held)
    with pytest.raises(ResidencyError, match="'profiles'; known are models, items"):
        residency.classes("models+profiles")


@pytest.mark.parametrize("allowed", [True, False], ids=["allowed", "not allowed"])
def test_raw_events_leave_only_where_a_setting_says_so(allowed: bool) -> None:
    residency.check_may_leave([DataClass.MODELS, DataClass.PSEUDONYMISED_EVENTS], "it", raw_events_may_leave=False)
    if allowed:
        residency.check_may_leave([DataClass.RAW_EVENTS], "it", raw_events_may_leave=True)
    else:
        with pytest.raises(ResidencyError, match=r"it holds raw-events.*raw_events_may_leave: true"):
            residency.check_may_leave([DataClass.RAW_EVENTS, DataClass.MODELS], "it", raw_events_may_leave=False)


class Stored:
    """A workspace of two storage stacks and what their settings say."""

    def __init__(self, *told: Any) -> None:
        self.told = dict(zip(("private", "public"), told, strict=True))

    def order(self, layers: list[str]) -> list[list[StackName]]:
        assert layers == ["storage"]
        return [[StackName("storage", site, "prod") for site in self.told]]

    def settings(self, stack: StackName) -> dict[str, Any]:
        return {"tandem:raw_events_may_leave": self.told[stack.site or ""]}


def manifest(*files: str) -> Manifest:
    return Manifest(
        model="recommender", files={name: FileEntry(sha256="0" * 64, size=1) for name in files}, catalogue_size=1
    )


def test_a_package_as_it_is_built_goes_to_every_site() -> None:
    built = manifest(*release.CLASSES)
    release.check_residency(built, Stored("false", False))  # type: ignore[arg-type]  # as much of one as is asked


@pytest.mark.parametrize("told", [(False, False), (True, "false"), (None, None)], ids=["no", "one site", "unsaid"])
def test_a_file_no_package_has_is_not_published_while_one_site_keeps_its_raw_events(told: Any) -> None:
    strange = manifest("model.onnx", "clicks.csv")
    with pytest.raises(ResidencyError, match=r"file clicks\.csv of sha256:[0-9a-f]{64} holds raw-events"):
        release.check_residency(strange, Stored(*told))  # type: ignore[arg-type]
    release.check_residency(strange, Stored(True, "true"))  # type: ignore[arg-type]


def test_publish_and_promote_ask_before_they_move_anything(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    def refuse(*_: object) -> None:
        raise ResidencyError("refused")

    def moved(*_: object, **__: object) -> None:
        raise AssertionError("something moved")

    monkeypatch.setattr(release, "check_residency", refuse)
    monkeypatch.setattr(release, "verify", lambda _: manifest("clicks.csv"))
    monkeypatch.setattr(release, "check_version", lambda *_: manifest("clicks.csv"))
    monkeypatch.setattr(release, "stores", lambda *_: {"private": None})
    monkeypatch.setattr(release, "served", lambda *_: {})
    monkeypatch.setattr(release, "publish_package", moved)
    monkeypatch.setattr(release, "promote_site", moved)
    for command in (["publish", str(tmp_path)], ["promote", "sha256:" + "a" * 64, "--site", "private"]):
        result = CliRunner().invoke(release.app, command)
        assert (result.exit_code, result.output.strip()) == (1, "error refused"), command
