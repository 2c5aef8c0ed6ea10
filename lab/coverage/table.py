"""Each property the programs use, and how far the lab goes with it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final, Literal

from lab.coverage import CoverageError
from lab.coverage.declared import Resource
from lab.schemas import aws, kubernetes

Standing = Literal["acted on", "validated", "recorded only"]
STANDINGS: Final[tuple[Standing, ...]] = ("acted on", "validated", "recorded only")

RELEASE: Final = "kubernetes:helm.sh/v3:Release"
EVERY_KIND: Final = "every Kubernetes kind"
POD_TEMPLATE: Final = "pod template"
TEMPLATES: Final[Mapping[str, str]] = {
    "apps/v1 DaemonSet": "spec.template.",
    "apps/v1 Deployment": "spec.template.",
    "batch/v1 CronJob": "spec.jobTemplate.spec.template.",
    "batch/v1 Job": "spec.template.",
}
"""Kind -> where its pods are described; what is said of a pod template holds for each."""


@dataclass(frozen=True, order=True)
class Row:
    """One property."""

    kind: str
    """Like aws:ec2/vpc:Vpc or apps/v1 Deployment."""
    property: str
    """Dots between keys, [] for the entries of a list, * for the keys of a map."""
    standing: Standing
    by: str
    """The test that proves it, the schema that checks it; empty for what is only recorded."""


@dataclass(frozen=True)
class Known:
    """What is kept by hand."""

    acted: Mapping[str, Mapping[str, str]]
    """Kind, or group of kinds -> property -> the test that proves it."""
    recorded: Mapping[str, Mapping[str, str]]
    """Kind -> property, * for all that is left -> why nothing checks it."""

    def proof(self, kind: str, name: str) -> str:
        """The test that proves the property; empty for none."""
        _, _, proof = self.entry(kind, name)
        return proof

    def entry(self, kind: str, name: str) -> tuple[str, str, str]:
        """Where the property stands: kind or group, name there, test; the test is empty for one that stands nowhere."""
        template = TEMPLATES.get(kind, "\0")
        places = [(kind, name)]
        if name.startswith(template):
            places.append((POD_TEMPLATE, name.removeprefix(template)))
        if not kind.startswith("aws:"):
            places.append((EVERY_KIND, name))
        for group, inner in places:
            # Where a preview knows nothing of a map or list, or it is empty, the whole of it is named.
            for entry in (inner, f"{inner}.*", f"{inner}[]"):
                if entry in self.acted.get(group, {}):
                    return group, entry, self.acted[group][entry]
        return kind, name, ""


@cache
def known() -> Known:
    """The file kept by hand, read."""
    try:
        content = tomllib.loads(resources.files(__package__).joinpath("acted.toml").read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise CoverageError(f"lab/coverage/acted.toml is no TOML: {error}; correct it") from error
    return Known(content["acted"], content["recorded"])


def rows(declared: Iterable[Resource], hand_kept: Known | None = None) -> list[Row]:
    """A row for every property of every kind, sorted."""
    by_hand = hand_kept or known()
    checked: dict[tuple[str, str], str] = {}
    for resource in declared:
        for kind, name, schema in used(resource):
            checked[kind, name] = schema or checked.get((kind, name), "")
    told = [each for each in checked if not _within(each, checked)]
    return sorted(_row(kind, name, checked[kind, name], by_hand) for kind, name in told)


def _within(whole: tuple[str, str], every: Iterable[tuple[str, str]]) -> bool:
    """Whether something within the property is named, too: then the whole of it is no further property."""
    kind, name = whole
    return any(other == kind and each.startswith((f"{name}.", f"{name}[]")) for other, each in every)


def _row(kind: str, name: str, schema: str, by_hand: Known) -> Row:
    proof = by_hand.proof(kind, name)
    if proof:
        return Row(kind, name, "acted on", proof)
    return Row(kind, name, "validated", schema) if schema else Row(kind, name, "recorded only", "")


def used(resource: Resource) -> Iterator[tuple[str, str, str]]:
    """Kind and name of each property a resource uses, and what checks it; nothing for components and providers."""
    if resource.type.startswith("aws:"):
        found = aws.examine(resource.type, resource.inputs)
        for name, place in found.places.items():
            yield resource.type, name, place
        for name in (*found.unmapped, *(each.property for each in found.strangers)):
            yield resource.type, name, ""
    elif resource.type == RELEASE:
        for name in resource.inputs:
            yield "helm.sh/v3 Release", name, ""
    elif resource.type.startswith("kubernetes:"):
        version, kind = str(resource.inputs["apiVersion"]), str(resource.inputs["kind"])
        schema = kubernetes.known(version, kind) or ""
        for name in kubernetes.properties(resource.inputs):
            yield f"{version} {kind}", name, schema


def unexplained(table: Iterable[Row], hand_kept: Known | None = None) -> list[Row]:
    """Rows that nothing acts on, nothing checks, and nobody has said why."""
    by_hand = hand_kept or known()
    excused = {(kind, name.removesuffix(".*").removesuffix("[]")) for kind, name, _ in aws.unmapped()}
    return [
        row
        for row in table
        if row.standing == "recorded only"
        and not {row.property, "*"} & set(by_hand.recorded.get(row.kind, {}))
        and not {(row.kind, row.property.removesuffix(".*").removesuffix("[]")), ("*", row.property)} & excused
    ]


def idle(table: Iterable[Row], hand_kept: Known | None = None) -> list[str]:
    """Entries kept by hand for properties that no program uses any more."""
    by_hand = hand_kept or known()
    listed = list(table)
    standing = {by_hand.entry(row.kind, row.property)[:2] for row in listed if row.standing == "acted on"}
    kinds = {row.kind for row in listed}
    every = {(row.kind, row.property) for row in listed if row.standing == "recorded only"}
    acted = [(kind, name) for kind, entries in by_hand.acted.items() for name in entries]
    recorded = [(kind, name) for kind, entries in by_hand.recorded.items() for name in entries]
    return [f"{kind}: {name}" for kind, name in acted if (kind, name) not in standing] + [
        f"{kind}: {name}"
        for kind, name in recorded
        if (kind not in kinds if name == "*" else (kind, name) not in every)
    ]


def reason(row: Row, hand_kept: Known | None = None) -> str:
    """Why nothing checks a property that is only recorded; empty for any other."""
    if row.standing != "recorded only":
        return ""
    entries = (hand_kept or known()).recorded.get(row.kind, {})
    plain = row.property.removesuffix(".*").removesuffix("[]")
    table = {(kind, name): why for kind, name, why in aws.unmapped()}
    return entries.get(row.property) or entries.get("*") or table.get((row.kind, plain)) or table.get(("*", plain), "")
