"""What a container finds in its environment: service links, envFrom, env, the downward API, `$(NAME)`."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from lab.kubernetes.api.syntax import quantity as parsed

_EXPANSION: Final = re.compile(r"\$(?:\$|\(([^)]*)\))")
_SUBSCRIPT: Final = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")
_VARIABLE: Final = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")


class ConfigError(Exception):
    """The container cannot be configured: a key or field it asks for is not there."""


class Sources(Protocol):
    """Where a container's environment comes from, beside its own manifest."""

    def config_map(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """The ConfigMap, None where there is none."""

    def secret(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """The Secret, None where there is none."""

    def services(self, namespace: str) -> Sequence[Mapping[str, Any]]:
        """Every Service of the namespace."""

    def api_server(self) -> tuple[str, int]:
        """Host and port of the site's Kubernetes API."""


@dataclass(frozen=True)
class Placement:
    """What only the kubelet knows of a pod: its addresses and how much its node has."""

    pod_ip: str
    host_ip: str
    allocatable: Mapping[str, str]


def expand(text: str, values: Mapping[str, str]) -> str:
    """`$(NAME)` replaced where NAME is known and left alone where not; `$$` is a plain dollar sign."""

    def replace(match: re.Match[str]) -> str:
        if match[1] is None:
            return "$"
        return values.get(match[1], match[0])

    return _EXPANSION.sub(replace, text)


def service_links(services: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The variables Kubernetes makes of every Service with an address, the older link form included."""
    links: dict[str, str] = {}
    for service in services:
        address = service["spec"].get("clusterIP") or "None"
        ports = service["spec"].get("ports") or []
        if address == "None" or not ports:
            continue
        prefix = service["metadata"]["name"].upper().replace("-", "_")
        links[f"{prefix}_SERVICE_HOST"] = address
        links[f"{prefix}_SERVICE_PORT"] = str(ports[0]["port"])
        for position, port in enumerate(ports):
            number, protocol = str(port["port"]), port.get("protocol", "TCP")
            if port.get("name"):
                links[f"{prefix}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = number
            url = f"{protocol.lower()}://{address}:{number}"
            if position == 0:
                links[f"{prefix}_PORT"] = url
            stem = f"{prefix}_PORT_{number}_{protocol}"
            links |= {stem: url, f"{stem}_PROTO": protocol.lower(), f"{stem}_PORT": number, f"{stem}_ADDR": address}
    return links


def field_value(pod: Mapping[str, Any], path: str, placement: Placement) -> str:
    """The downward API's value of one field; ConfigError for a field it does not offer."""
    metadata, spec = pod["metadata"], pod["spec"]
    plain = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.podIP": placement.pod_ip,
        "status.podIPs": placement.pod_ip,
        "status.hostIP": placement.host_ip,
        "status.hostIPs": placement.host_ip,
    }
    if path in plain:
        return str(plain[path])
    if subscript := _SUBSCRIPT.fullmatch(path):
        return str((metadata.get(subscript[1]) or {}).get(subscript[2], ""))
    raise ConfigError(f'fieldRef "{path}" is not a field of the downward API; use one of {", ".join(sorted(plain))}')


def resource_value(container: Mapping[str, Any], reference: Mapping[str, Any], placement: Placement) -> str:
    """A container's own limit or request, in units of the divisor, rounded up; without one, what the node has."""
    half, _, name = str(reference["resource"]).partition(".")
    resources = container.get("resources") or {}
    amount = (resources.get(half) or {}).get(name)
    if amount is None and half == "requests":
        amount = (resources.get("limits") or {}).get(name)
    if amount is None:
        amount = placement.allocatable.get(name, "0") if half == "limits" else "0"
    divisor = parsed(reference.get("divisor") or "1") or 1
    return str(math.ceil((parsed(amount) or 0) / divisor))


def _decoded(secret: Mapping[str, Any]) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in (secret.get("data") or {}).items()}


def _keyed(reference: Mapping[str, Any], what: str, namespace: str, data: Mapping[str, str] | None) -> str | None:
    name, key = reference.get("name", ""), reference["key"]
    if data is not None and key in data:
        return data[key]
    if reference.get("optional"):
        return None
    if data is None:
        raise ConfigError(f'{what} "{name}" not found in namespace {namespace}')
    raise ConfigError(f"couldn't find key {key} in {what.capitalize()} {namespace}/{name}")


class EnvironmentBuilder:
    """Builds the environment of one pod's containers."""

    def __init__(self, pod: Mapping[str, Any], placement: Placement, sources: Sources) -> None:
        self._pod = pod
        self._namespace: str = pod["metadata"]["namespace"]
        self._placement = placement
        self._sources = sources

    def build(self, container: Mapping[str, Any]) -> dict[str, str]:
        """The variables of one container, `$(NAME)` expanded; ConfigError naming what is missing."""
        links = self._links()
        own = self._from_bundles(container)
        defined: dict[str, str] = {}
        for entry in container.get("env") or []:
            value = self._value(container, entry, {**links, **defined})
            if value is not None:
                defined[entry["name"]] = value
        return {**links, **own, **defined}

    def _links(self) -> dict[str, str]:
        host, port = self._sources.api_server()
        links = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": str(port)}
        if self._pod["spec"].get("enableServiceLinks", True):
            links |= service_links(self._sources.services(self._namespace))
        return links

    def _from_bundles(self, container: Mapping[str, Any]) -> dict[str, str]:
        values: dict[str, str] = {}
        for entry in container.get("envFrom") or []:
            reference = entry.get("configMapRef") or entry.get("secretRef") or {}
            what = "configmap" if "configMapRef" in entry else "secret"
            data = self._bundle(what, reference.get("name", ""))
            if data is None and not reference.get("optional"):
                raise ConfigError(f'{what} "{reference.get("name")}" not found in namespace {self._namespace}')
            prefix = entry.get("prefix", "")
            values |= {prefix + key: value for key, value in (data or {}).items() if _VARIABLE.fullmatch(prefix + key)}
        return values

    def _bundle(self, what: str, name: str) -> dict[str, str] | None:
        if what == "configmap":
            config_map = self._sources.config_map(self._namespace, name)
            return None if config_map is None else dict(config_map.get("data") or {})
        secret = self._sources.secret(self._namespace, name)
        return None if secret is None else _decoded(secret)

    def _value(self, container: Mapping[str, Any], entry: Mapping[str, Any], known: Mapping[str, str]) -> str | None:
        source = entry.get("valueFrom")
        if not source:
            return expand(entry.get("value") or "", known)
        if reference := source.get("fieldRef"):
            return field_value(self._pod, reference["fieldPath"], self._placement)
        if reference := source.get("resourceFieldRef"):
            return resource_value(container, reference, self._placement)
        for key, what in (("configMapKeyRef", "configmap"), ("secretKeyRef", "secret")):
            if reference := source.get(key):
                return _keyed(reference, what, self._namespace, self._bundle(what, reference.get("name", "")))
        raise ConfigError(
            f"env {entry['name']}: valueFrom has none of fieldRef, resourceFieldRef, configMapKeyRef, secretKeyRef"
        )
