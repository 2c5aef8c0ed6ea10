"""A recorded state as `pulumi stack export` prints it: what it holds, and what it is without a dead cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from stacks.secret_marks import marked

ROOT: Final = "pulumi:pulumi:Stack"
KUBERNETES: Final = "pulumi:providers:kubernetes"
CLUSTER_BOUND: Final = "aws:eks/"
"""Types that end with an EKS cluster, and the cluster itself: it cannot be deleted before its node groups."""

Record = Mapping[str, Any]


class CheckpointError(ValueError):
    """A state that cannot be read."""


@dataclass(frozen=True)
class Checkpoint:
    """One stack's state."""

    document: dict[str, Any]

    @classmethod
    def parse(cls, text: str, where: str) -> Self:
        """Raise CheckpointError unless it has the shape of a state."""
        try:
            document = json.loads(text)
            resources = document["deployment"].get("resources") or []
            assert all(isinstance(each["urn"], str) and isinstance(each["type"], str) for each in resources)  # noqa: S101
        except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
            raise CheckpointError(
                f"{where} holds no state ({type(error).__name__}: {error}); a state is what `pulumi stack export`"
                " prints: take another copy"
            ) from error
        return cls(document)

    @property
    def text(self) -> str:
        """The state as it is imported."""
        return json.dumps(self.document)

    @property
    def records(self) -> list[dict[str, Any]]:
        """All records, oldest first."""
        return list(self.document["deployment"].get("resources") or [])

    @property
    def resources(self) -> list[dict[str, Any]]:
        """Records of what stands outside of the engine, in a cloud or a cluster."""
        return [each for each in self.records if _stands(each)]

    @property
    def protected(self) -> list[str]:
        """Names of resources that refuse deletion."""
        return [name(each) for each in self.resources if each.get("protect") and not each.get("delete")]

    @property
    def has_plain_secrets(self) -> bool:
        """Whether anybody who reads it reads a secret."""
        return any(marked(each) and "ciphertext" not in each for each in _objects(self.document))

    def without_cluster(self, *, pool: bool, management: str | None) -> tuple[Checkpoint, list[dict[str, Any]]]:
        """The state without what lived in the site's cluster, and what that was.

        What hangs on a Kubernetes provider goes, unless that provider is named `management`; of a pool also EKS's own.
        The stack itself stays with its outputs, so that other stacks read them on.
        """
        records = self.records
        gone = {
            each["urn"]
            for each in records
            if (each["type"] == KUBERNETES and _called(each) != management)
            or (pool and each["type"].startswith(CLUSTER_BOUND))
        }
        for each in records:
            if _provider(each) in gone or each.get("deletedWith") in gone:
                gone.add(each["urn"])
        gone |= _emptied(records, gone)
        root = next((each["urn"] for each in records if each["type"] == ROOT), "")
        kept = [_cut_loose(each, gone, root) for each in records if each["urn"] not in gone]
        deployment = {**self.document["deployment"], "resources": kept}
        pending = [
            each
            for each in deployment.pop("pending_operations", None) or []
            if not {each["resource"]["urn"], _provider(each["resource"])} & gone
        ]
        if pending:
            deployment["pending_operations"] = pending
        forgotten = [each for each in records if each["urn"] in gone and _stands(each)]
        return Checkpoint({**self.document, "deployment": deployment}), forgotten


def name(record: Record) -> str:
    """A resource for a person: type and name."""
    return f"{record['type']}::{_called(record)}"


def _called(record: Record) -> str:
    return str(record["urn"]).rpartition("::")[2]


def _stands(record: Record) -> bool:
    return bool(record.get("custom")) and not record.get("external") and not record["type"].startswith("pulumi:")


def _provider(record: Record) -> str:
    return str(record.get("provider") or "").rpartition("::")[0]


def _emptied(records: list[dict[str, Any]], gone: set[str]) -> set[str]:
    """Components that held only what is gone; a record stands after its parent, so the youngest are asked first."""
    empty: set[str] = set()
    for each in reversed(records):
        if each.get("custom") or each["type"] == ROOT:
            continue
        children = [child["urn"] for child in records if child.get("parent") == each["urn"]]
        if children and all(child in gone or child in empty for child in children):
            empty.add(each["urn"])
    return empty


def _cut_loose(record: dict[str, Any], gone: set[str], root: str) -> dict[str, Any]:
    """A record that names nothing that is gone: engines refuse a state whose edges lead nowhere."""
    kept = dict(record)
    if kept.get("parent") in gone:
        kept["parent"] = root
    if "dependencies" in kept:
        kept["dependencies"] = [each for each in kept["dependencies"] or [] if each not in gone]
    if "propertyDependencies" in kept:
        edges = kept["propertyDependencies"] or {}
        kept["propertyDependencies"] = {
            key: [each for each in urns or [] if each not in gone] for key, urns in edges.items()
        }
    return kept


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
        for each in value.values():
            yield from _objects(each)
    elif isinstance(value, list):
        for each in value:
            yield from _objects(each)
