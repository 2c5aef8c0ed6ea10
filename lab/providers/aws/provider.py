"""The `aws` package: finds the type, asks it, and turns API errors into sentences."""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from lab.providers.aws import (
    acm,
    cloudwatch,
    ec2,
    ec2_gateway,
    ec2_launch,
    ec2_network,
    ec2_reservation,
    ec2_routing,
    ec2_watch,
    eks,
    eks_nodes,
    eks_recorded,
    elbv2,
    elbv2_listener,
    iam,
    kms,
    kms_policy,
    logs,
    route53,
    route53_query_log,
    route53_record,
    s3,
    s3_life,
    s3_policy,
    s3_replication,
    s3_settings,
    sns,
)
from lab.providers.aws.cloud import MARKER_TAG, Cloud, check_settings, explain
from lab.providers.aws.resource import AwsType
from lab.providers.difference import Difference
from lab.providers.errors import Failure, NotInLabError, ProviderError
from lab.providers.naming import make_name
from lab.providers.package import Checked, Existing, Limits, Subject
from lab.providers.values import UNKNOWN, Path, is_known, project
from lab.schemas import aws as schemas
from lab.topology import Topology

MODULES = (
    acm,
    cloudwatch,
    ec2_gateway,
    ec2_launch,
    ec2_network,
    ec2_reservation,
    ec2_routing,
    ec2_watch,
    eks,
    eks_nodes,
    eks_recorded,
    elbv2,
    elbv2_listener,
    iam,
    kms,
    kms_policy,
    logs,
    route53,
    route53_query_log,
    route53_record,
    s3,
    s3_life,
    s3_policy,
    s3_replication,
    s3_settings,
    sns,
)
TYPES: dict[str, AwsType] = {kind.type_name: kind() for module in MODULES for kind in module.TYPES}
ZONES_TOKEN = "aws:index/getAvailabilityZones:getAvailabilityZones"  # noqa: S105 - a function's name


class AwsPackage:
    """One `aws` provider instance."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._cloud: Cloud | None = None
        self._lock = threading.Lock()
        self._written: dict[str, set[str]] = {}
        """URN -> ids the engine knows; a URN is absent while the engine has no resource under it."""

    @property
    def cloud(self) -> Cloud:
        """The configured way to the API."""
        if self._cloud is None:
            raise ProviderError("the aws provider is not configured yet; its settings depend on values not known yet")
        return self._cloud

    def check_config(self, inputs: Mapping[str, Any]) -> list[Failure]:
        return check_settings(inputs)

    def replaces_config(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
        return []

    def configure(self, inputs: Mapping[str, Any]) -> None:
        self._cloud = Cloud(inputs, self._topology)

    def invoke(self, token: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        if token != ZONES_TOKEN:
            raise NotInLabError(f"{token}: the lab does not implement this function; it implements {ZONES_TOKEN}")
        with _explained(token):
            return ec2.availability_zones(self.cloud, arguments)

    def check(self, subject: Subject, old: dict[str, Any], new: dict[str, Any], seed: bytes) -> Checked:
        kind = _type_of(subject)
        inputs = kind.schema.coerce({name: value for name, value in new.items() if name != "__defaults"})
        failures = list(kind.schema.check(inputs))
        inputs, more = _with_defaults(kind, subject, old, inputs, seed)
        failures += more
        if old:  # a second Check without old inputs prepares a replacement and says nothing new
            with self._lock:
                self._written.setdefault(subject.urn, set())
        if not failures:
            with _explained(subject.urn):
                failures = list(kind.rules(self.cloud, inputs))
            failures += _refused_by_models(subject, inputs, {_first(each.property) for each in failures})
        named = [Failure(item.property, f"{subject.type} {subject.name!r}: {item.reason}") for item in failures]
        return Checked(inputs, named)

    def diff(
        self, subject: Subject, identity: str, state: dict[str, Any], old: dict[str, Any], new: dict[str, Any]
    ) -> Difference:
        self._mention(subject, identity)
        return _type_of(subject).differ(self.cloud, state, old, new)

    def create(self, subject: Subject, inputs: dict[str, Any], *, preview: bool, limits: Limits) -> Existing:
        kind = _type_of(subject)
        if preview:
            return Existing("", kind.planned(self.cloud, inputs))
        _require_known(subject, inputs)
        marker = _marker(subject, kind, inputs)
        tags = (
            {key: str(value) for key, value in self.cloud.all_tags(inputs.get("tags")).items()} if kind.tagged else {}
        )
        with _explained(subject.urn):
            identity = self._lost(subject, kind, marker, inputs)
            if identity is None:
                identity = kind.create(self.cloud, inputs, {**tags, MARKER_TAG: marker} if kind.tagged else {})
            return Existing(identity, kind.state(self.cloud, identity, inputs))

    def read(self, subject: Subject, identity: str, state: dict[str, Any], inputs: dict[str, Any]) -> Existing | None:
        kind = _type_of(subject)
        self._mention(subject, identity)
        given = inputs or {name: state[name] for name in kind.schema.properties if name in state}
        given = given or kind.identity_inputs(identity)
        with _explained(subject.urn):
            live = kind.read(self.cloud, identity, given)
            if live is None:
                return None
            whole = kind.assemble(self.cloud, identity, given, live)
        if inputs:
            refreshed = {name: project(inputs[name], whole.get(name)) for name in inputs if name != "__defaults"}
        else:
            refreshed = {name: whole[name] for name in kind.schema.properties if name in whole}
        kept = {"__defaults": inputs["__defaults"]} if "__defaults" in inputs else {}
        return Existing(identity, whole, {**refreshed, **kept})

    def update(
        self,
        subject: Subject,
        identity: str,
        state: dict[str, Any],
        old: dict[str, Any],
        new: dict[str, Any],
        *,
        preview: bool,
        limits: Limits,
    ) -> dict[str, Any]:
        kind = _type_of(subject)
        self._mention(subject, identity)
        refusals = "; ".join(kind.refuse_update(old, new))
        if refusals:
            raise NotInLabError(
                f"{subject.urn}: {refusals}: undo the change, give the resource another name,"
                " or bring the lab up anew (tandem lab down, tandem lab up)"
            )
        if preview:
            kept = {name: value for name, value in state.items() if name not in kind.schema.properties or name in new}
            planned = kind.planned(self.cloud, new)
            return {**planned, **kept, **{key: value for key, value in planned.items() if value is not UNKNOWN}}
        _require_known(subject, new)
        with _explained(subject.urn):
            if all(kind.read(self.cloud, identity, each) is None for each in (old, new)):
                raise ProviderError(f"{subject.urn}: {identity} is gone; somebody else removed it: refresh the stack")
            kind.update(self.cloud, identity, old, new)
            if kind.tagged:
                tags = {key: str(value) for key, value in self.cloud.all_tags(new.get("tags")).items()}
                before = state.get("tagsAll") or {}
                if tags != before:
                    kind.tag(self.cloud, identity, tags, sorted(set(before) - set(tags)))
            return kind.state(self.cloud, identity, new)

    def delete(self, subject: Subject, identity: str, state: dict[str, Any], *, limits: Limits) -> None:
        with _explained(subject.urn):
            _type_of(subject).delete(self.cloud, identity, state)

    def secret_outputs(self, subject: Subject) -> tuple[Path, ...]:
        return ()

    def _mention(self, subject: Subject, identity: str) -> None:
        with self._lock:
            self._written.setdefault(subject.urn, set()).add(identity)

    def _lost(self, subject: Subject, kind: AwsType, marker: str, inputs: dict[str, Any]) -> str | None:
        """What an earlier Create of this URN left behind and no engine has written down; none if it has to go."""
        with self._lock:
            ids = self._written.get(subject.urn)
            if ids is not None and not ids:
                return None  # the engine has a resource here and has not said which
            written = set(ids or ())
        resource = marker.partition(".")[0]
        for identity, value in list(kind.marked(self.cloud, inputs)):
            live = None
            if value and value.startswith(resource) and identity not in written:
                live = kind.read(self.cloud, identity, inputs)
            if live is not None and value == marker:
                return identity
            if live is not None:
                kind.delete(self.cloud, identity, {**inputs, **live})
        return None


def _type_of(subject: Subject) -> AwsType:
    kind = TYPES.get(subject.type)
    if kind is None:
        raise NotInLabError(
            f"{subject.urn}: the lab does not implement the type {subject.type}; leave it out for env lab"
        )
    return kind


def _with_defaults(
    kind: AwsType, subject: Subject, old: dict[str, Any], inputs: dict[str, Any], seed: bytes
) -> tuple[dict[str, Any], list[Failure]]:
    """The inputs with the type's defaults and a physical name; `__defaults` says which were filled in."""
    filled = {name: value for name, value in kind.defaults.items() if inputs.get(name) is None}
    naming = kind.naming
    if naming and inputs.get(naming.property) is None and not any(inputs.get(name) for name in naming.instead):
        if naming.property in (old.get("__defaults") or []):
            filled[naming.property] = old[naming.property]
        else:
            try:
                filled[naming.property] = make_name(naming, subject.name, seed)
            except ValueError as error:
                return inputs, [Failure(naming.property, str(error))]
    return {**inputs, **filled, "__defaults": sorted(filled)}, []


def _refused_by_models(subject: Subject, inputs: dict[str, Any], told: set[str]) -> list[Failure]:
    """What AWS's own models refuse, of properties that no rule of the lab has told of yet."""
    try:
        found = schemas.examine(subject.type, inputs)
    except NotInLabError as error:
        raise NotInLabError(f"{subject.urn}: {error}") from None
    return [each for each in found.failures if _first(each.property) not in told]


def _first(path: str) -> str:
    return path.partition(".")[0].partition("[")[0]


def _marker(subject: Subject, kind: AwsType, inputs: dict[str, Any]) -> str:
    """Which declared resource, made from which inputs; names made up differ from time to time and do not count."""
    given = {name: value for name, value in kind.canonical(inputs).items() if name not in inputs.get("__defaults", ())}
    text = json.dumps(given, sort_keys=True)
    return ".".join(hashlib.sha256(part.encode()).hexdigest()[:32] for part in (subject.urn, text))


def _require_known(subject: Subject, inputs: dict[str, Any]) -> None:
    unknown = sorted(name for name, value in inputs.items() if not is_known(value))
    if unknown:
        raise ProviderError(f"{subject.urn}: {', '.join(unknown)} is not known; an update needs every value: a defect")


@contextmanager
def _explained(about: str) -> Iterator[None]:
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise ProviderError(f"{about}: {explain(error)}") from error
