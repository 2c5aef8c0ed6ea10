"""Helm releases, as a record: what would be installed stands in the Secret Helm keeps of it, and nothing is installed.

No chart is fetched or rendered: the lab reaches no repository. What a chart's controllers would do is done by nobody,
except where the lab has a part of its own for it.
"""

from __future__ import annotations

import base64
import copy
import json
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from lab.providers.difference import Difference, compare
from lab.providers.errors import Failure, ProviderError
from lab.providers.kubernetes.api import Api, RefusedError, Resource
from lab.providers.kubernetes.manifest import MARKER, marker_of
from lab.providers.naming import random_hex
from lab.providers.package import Checked, Existing, Subject
from lab.providers.values import UNKNOWN, is_known, project

TYPE: Final = "kubernetes:helm.sh/v3:Release"
REPLACES: Final = ("name", "namespace")
NAME_LIMIT: Final = 53
"""Helm's own (https://helm.sh/docs/chart_template_guide/getting_started/#a-simple-template-call)."""
STORED_TYPE: Final = "helm.sh/release.v1"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_VERSION = re.compile(r"v?\d+\.\d+\.\d+([-+][0-9A-Za-z.+-]+)?")
_SECRET: Final = ("v1", "Secret")
_NAME_DIGITS: Final = 8


def check(subject: Subject, old: Mapping[str, Any], new: dict[str, Any], seed: bytes, namespace: str) -> Checked:
    """The inputs with a name and a namespace, or the rules they break."""
    inputs = copy.deepcopy(new)
    if inputs.get("name") is None:
        inputs["name"] = old.get("name") or f"{subject.name}-{random_hex(_NAME_DIGITS, seed)}"
    if inputs.get("namespace") is None:
        inputs["namespace"] = namespace
    return Checked(inputs, _failures(subject, inputs))


def _failures(subject: Subject, inputs: Mapping[str, Any]) -> list[Failure]:
    title = f"{TYPE} {subject.name!r}"
    found = []
    name, version, values = inputs.get("name"), inputs.get("version"), inputs.get("values")
    if isinstance(name, str) and (not _NAME.fullmatch(name) or len(name) > NAME_LIMIT):
        rule = f"a release's name has at most {NAME_LIMIT} lower-case letters, digits and hyphens"
        found.append(Failure("name", f"{title}: name is {name!r}; {rule}: shorten or respell it"))
    if version is not UNKNOWN and not _VERSION.fullmatch(str(version or "")):
        rule = "without one exact version each up installs what is newest that day"
        found.append(Failure("version", f"{title}: version is {version!r}; {rule}: pin one, like 1.2.3"))
    if values is not None and values is not UNKNOWN and not isinstance(values, Mapping):
        found.append(Failure("values", f"{title}: values is {values!r}; it has to be an object: correct it"))
    return [*found, *_source(title, inputs)]


def _source(title: str, inputs: Mapping[str, Any]) -> list[Failure]:
    chart, options = inputs.get("chart"), inputs.get("repositoryOpts")
    if chart is UNKNOWN or options is UNKNOWN:
        return []
    if not chart:
        return [Failure("chart", f"{title}: chart is missing; a release is one of a chart: name it")]
    repository = options.get("repo") if isinstance(options, Mapping) else None
    if repository is UNKNOWN or str(chart).startswith("oci://"):
        return []
    if urlsplit(str(repository or "")).scheme not in {"http", "https"}:
        rule = "a chart is found in a repository, or has an oci:// address"
        return [Failure("repositoryOpts", f"{title}: repositoryOpts.repo is {repository!r}; {rule}: give its URL")]
    return []


def diff(old: Mapping[str, Any], new: Mapping[str, Any]) -> Difference:
    """A release is upgraded in place; one of another name or namespace is another one."""
    changes = compare(dict(old), dict(new))
    return Difference(changes, tuple(path for path in changes if path in REPLACES), False)


def planned(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What a preview can tell."""
    return {**inputs, "status": UNKNOWN, "resourceNames": UNKNOWN}


class Releases:
    """The releases of one cluster."""

    def __init__(self, api: Api) -> None:
        self._api = api

    @property
    def _secrets(self) -> Resource:
        return self._api.resource(*_SECRET)

    def put(self, subject: Subject, inputs: dict[str, Any]) -> Existing:
        """Record the release, or its next revision; ProviderError where somebody else has one of that name."""
        if not is_known(inputs):
            raise ProviderError(f"{subject.urn}: some of its inputs are not known; a release needs every value")
        namespace, name, marker = inputs["namespace"], inputs["name"], marker_of(subject)
        before = self._records(namespace, name)
        if any((each["metadata"].get("annotations") or {}).get(MARKER) != marker for each in before):
            raise ProviderError(
                f"Release {namespace}/{name} exists already and belongs to somebody else: give it another name, or"
                " uninstall the other one"
            )
        same = next((each for each in before if _release(each) == inputs), None)
        revision = _revision(same) if same else 1 + max(map(_revision, before), default=0)
        if same is None:
            self._write(namespace, name, revision, marker, inputs)
        for each in before:
            if _revision(each) != revision:  # as with maxHistory 1
                self._api.delete(self._secrets, namespace, each["metadata"]["name"], each["metadata"]["uid"])
        return Existing(f"{namespace}/{name}", _state(inputs, revision))

    def read(self, identity: str, inputs: Mapping[str, Any]) -> Existing | None:
        """The release as recorded, or None."""
        namespace, _, name = identity.rpartition("/")
        latest = max(self._records(namespace, name), key=_revision, default=None)
        if latest is None:
            return None
        release = _release(latest)
        return Existing(identity, _state(release, _revision(latest)), project(inputs, release) if inputs else release)

    def delete(self, identity: str) -> None:
        """Forget every revision of it."""
        namespace, _, name = identity.rpartition("/")
        for each in self._records(namespace, name):
            self._api.delete(self._secrets, namespace, each["metadata"]["name"], each["metadata"]["uid"])

    def _records(self, namespace: str, name: str) -> list[dict[str, Any]]:
        return self._api.list(*_SECRET, namespace, labels=f"owner=helm,name={name}")

    def _write(self, namespace: str, name: str, revision: int, marker: str, inputs: Mapping[str, Any]) -> None:
        text = json.dumps(inputs, sort_keys=True)
        labels = {"owner": "helm", "name": name, "status": "deployed", "version": str(revision)}
        manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": STORED_TYPE,
            "metadata": {
                "name": f"sh.helm.release.v1.{name}.v{revision}",
                "namespace": namespace,
                "labels": labels,
                "annotations": {MARKER: marker},
            },
            "data": {"release": base64.b64encode(text.encode()).decode()},
        }
        try:
            self._api.apply(self._secrets, namespace, manifest, force=False, dry_run=False)
        except RefusedError as error:
            raise ProviderError(
                f"Release {namespace}/{name}: the Kubernetes API refuses its record: {error}"
            ) from error


def _release(record: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.b64decode(record["data"]["release"]))
    return found


def _revision(record: Mapping[str, Any]) -> int:
    return int(record["metadata"]["labels"]["version"])


def _state(inputs: Mapping[str, Any], revision: int) -> dict[str, Any]:
    told = {key: inputs.get(key) for key in ("chart", "name", "namespace", "version")}
    return {**inputs, "resourceNames": {}, "status": {**told, "revision": revision, "status": "deployed"}}
