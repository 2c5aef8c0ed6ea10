"""Rules a value has to meet before any resource exists; every error says value, rule, remedy."""

from __future__ import annotations

import ipaddress
import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Final, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from infra import naming

_LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_IMAGE = re.compile(r"[a-z0-9][a-z0-9.:-]*(/[a-z0-9._-]+)+@sha256:[0-9a-f]{64}")
_CPU = re.compile(r"[1-9][0-9]*m?")
_MEMORY = re.compile(r"[1-9][0-9]*(Mi|Gi)")
_REGION = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")

WEIGHT_LIMIT: Final = 255
"""https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/resource-record-sets-values-weighted.html"""
LONG_LIVED: Final = frozenset({"client-certificate-data", "client-key-data", "password", "token"})
"""Fields of a kubeconfig user that hold a credential itself."""


class SettingError(ValueError):
    """A value no resource may be made from: what it is, which rule it breaks, what to write instead."""


def parse(key: str, raw: str, kind: Any) -> Any:
    """The configured text as the type its field declares."""
    if kind is str:
        return raw
    if kind is bool and raw in ("true", "false"):
        return raw == "true"
    if kind is int and re.fullmatch(r"-?\d+", raw):
        return int(raw)
    if kind is float and re.fullmatch(r"-?\d+(\.\d+)?", raw):
        return float(raw)
    if kind in (bool, int, float):
        words = {bool: "true or false", int: "a whole number", float: "a number"}
        raise SettingError(f"{key} is {raw!r}; it is {words[kind]}: correct it in the stack's settings file")
    try:
        value = json.loads(raw)
    except json.JSONDecodeError:
        value = None
    if kind == tuple[str, ...]:
        if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
            return tuple(value)
        raise SettingError(f"{key} is {raw!r}; it is a list of strings: write one entry a line, each after a hyphen")
    if get_origin(kind) is tuple and is_dataclass(item := get_args(kind)[0]):
        return items(key, value, item)
    if isinstance(value, dict) and (kind != dict[str, str] or all(isinstance(entry, str) for entry in value.values())):
        return value
    raise SettingError(f"{key} is not a map of names to values; write one `name: value` a line below it")


def items(key: str, value: Any, kind: Any) -> tuple[Any, ...]:
    """A list of maps as the frozen dataclass each of them is; an unknown or missing key is named with those there are.

    The entries of a map may be text, as everywhere in a settings file: "4" is a whole number where one is asked for.
    """
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise SettingError(f"{key} is no list of maps; write `- name: value` for each entry, its other keys below it")
    return tuple(_item(f"{key}[{number}]", entry, kind) for number, entry in enumerate(value))


def _item(key: str, value: Mapping[str, Any], kind: Any) -> Any:
    known = {entry.name: entry for entry in fields(kind)}
    for name in value:
        if name not in known:
            raise SettingError(f"{key}.{name} is not known; its keys are {', '.join(known)}: correct or remove it")
    for name, entry in known.items():
        if name not in value and entry.default is MISSING and entry.default_factory is MISSING:
            raise SettingError(f"{key}.{name} has no value; every entry of the list needs one: set it")
    types = get_type_hints(kind)
    return kind(
        **{
            name: parse(f"{key}.{name}", given if isinstance(given, str) else json.dumps(given), types[name])
            for name, given in value.items()
        }
    )


def one_of(key: str, value: str, allowed: Collection[str]) -> None:
    """`value` is one of the allowed words."""
    if value not in allowed:
        raise SettingError(f"{key} is {value!r}; it is one of {', '.join(sorted(allowed))}: choose one of them")


def version(key: str, value: str, *, parts: int) -> None:
    """`value` is a Kubernetes version of so many numbers."""
    if not re.fullmatch(r"\d+" + r"\.\d+" * (parts - 1), value):
        example = ".".join(("1", "34", "2")[:parts])
        raise SettingError(f"{key} is {value!r}; this kind of site names {parts} numbers: write one like {example}")


def between(key: str, value: float, low: float, high: float) -> None:
    """`value` is a finite number from low to high, both included."""
    if not math.isfinite(value) or not low <= value <= high:
        raise SettingError(f"{key} is {value}; it lies between {low} and {high}: choose a value in that range")


def label(key: str, value: str, limit: int = naming.DNS_LABEL_LIMIT) -> None:
    """`value` can be one part of a host name, and so a Kubernetes name."""
    if not _LABEL.fullmatch(value) or len(value) > limit:
        raise SettingError(
            f"{key} is {value!r}; it has at most {limit} lower-case letters, digits and hyphens, begins with a letter"
            " and does not end with a hyphen: shorten or respell it"
        )


def dns_name(key: str, value: str) -> None:
    """`value` is a host name of at least two parts, without a final dot."""
    parts = value.split(".")
    if len(parts) < 2 or "" in parts or len(value) > naming.DNS_NAME_LIMIT:
        raise SettingError(
            f"{key} is {value!r}; it is a host name of at least two parts and at most {naming.DNS_NAME_LIMIT}"
            " characters, without a final dot: write it like shop.example.com"
        )
    for part in parts:
        label(f"{key}, part {part!r}", part)


def url(key: str, value: str) -> None:
    """`value` is http or https with a host and nothing behind it."""
    parsed = urlsplit(value)
    if parsed.scheme not in ("http", "https") or not parsed.hostname or parsed.path.strip("/") or parsed.query:
        raise SettingError(f"{key} is {value!r}; it is a URL without a path: write it like https://s3.example.com:9000")


def endpoints(key: str, value: Mapping[str, str], services: Collection[str]) -> None:
    """`value` names an endpoint for services of ours only."""
    for service, address in value.items():
        one_of(f"service in {key}", service, services)
        url(f"{key}.{service}", address)


def ipv4(key: str, value: str) -> None:
    """`value` is one IPv4 address."""
    try:
        ipaddress.IPv4Address(value)
    except ValueError:
        raise SettingError(f"{key} is {value!r}; it is one IPv4 address: write it like 192.0.2.10") from None


def network(key: str, value: str, shortest: int, longest: int) -> ipaddress.IPv4Network:
    """The IPv4 network in `value`, its prefix within the two lengths."""
    try:
        found = ipaddress.IPv4Network(value)
    except ValueError:
        found = None
    if found is None or not shortest <= found.prefixlen <= longest:
        raise SettingError(
            f"{key} is {value!r}; it is an IPv4 network with a prefix from /{shortest} to /{longest} and no host bits:"
            " write it like 10.0.0.0/16"
        )
    return found


def networks(key: str, value: Collection[str]) -> None:
    """`value` names IPv4 networks, none so wide that S3 takes a policy for them as one for everybody."""
    if not value:
        raise SettingError(f"{key} is empty; it names at least one IPv4 network: write one like 192.0.2.0/24")
    for entry in value:
        network(f"network in {key}", entry, 8, 32)


def host_port(key: str, value: str) -> None:
    """`value` is an address and a port."""
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise SettingError(f"{key} is {value!r}; it is an address and a port: write it like 192.0.2.53:53")


def region(key: str, value: str) -> None:
    """`value` has the form of a region's name."""
    if not _REGION.fullmatch(value):
        raise SettingError(f"{key} is {value!r}; it is a region's name: write it like eu-central-1")


def quantities(name: str, cpu: str, memory: str) -> None:
    """What a container requests is written as Kubernetes reads it."""
    if not _CPU.fullmatch(cpu):
        raise SettingError(f"{name}_cpu is {cpu!r}; it is whole cores or millicores: write it like 2 or 250m")
    if not _MEMORY.fullmatch(memory):
        raise SettingError(f"{name}_memory is {memory!r}; it is a number of Mi or Gi: write it like 512Mi")


def digest(key: str, value: str) -> None:
    """`value` names bytes, not a label that can move."""
    if not _DIGEST.fullmatch(value):
        raise SettingError(
            f"{key} is {value!r}; a version is its digest, sha256: and 64 hex digits: `tandem model train` prints it,"
            " `tandem model status` lists those that are published"
        )


def image(key: str, value: str) -> None:
    """`value` is a container image by digest; a tag can be moved to other bytes."""
    if not _IMAGE.fullmatch(value):
        raise SettingError(
            f"{key} is {value!r}; images are named repository@sha256:<64 hex digits>, with no tag: ask the registry for"
            " the digest of the tag you mean"
        )


def weights(key: str, value: Mapping[str, int]) -> None:
    """`value` gives each site an integer weight, and at least one site some traffic."""
    if not value:
        raise SettingError(f"{key} names no site; every site needs a weight: write it like private: 70, public: 30")
    for site, weight in value.items():
        label(f"site in {key}", site, naming.SITE_LIMIT)
        if type(weight) is not int or not 0 <= weight <= WEIGHT_LIMIT:
            raise SettingError(
                f"{key}.{site} is {weight!r}; a weight is an integer from 0 to {WEIGHT_LIMIT}, 0 meaning that the site"
                " serves only when every other one is ill: choose one in that range"
            )
    if not any(value.values()):
        raise SettingError(
            f"{key} is {dict(value)}; with every weight 0 no site is preferred: give at least one site a weight above 0"
        )


def kubeconfig(key: str, value: Mapping[str, Any], *, exported: bool) -> None:
    """`value` names a current cluster; where it is exported, it holds no long-lived credential."""
    contexts = {entry.get("name") for entry in value.get("contexts", [])}
    if not value.get("clusters") or value.get("current-context") not in contexts:
        raise SettingError(
            f"{key} has the entries {sorted(value) or 'none'}; it is a kubeconfig with clusters, contexts and a"
            " current-context that exists: paste the output of `kubectl config view --raw --minify -o json`"
        )
    if not exported:
        return
    for entry in value.get("users", []):
        held = sorted(LONG_LIVED & set(entry.get("user", {})))
        if held:
            raise SettingError(
                f"{key} has {held[0]!r} for user {entry.get('name')!r}; it becomes a plain stack output, so no"
                " credential may stand in it: name an exec plugin that fetches one"
            )


def credentials(access_key: str, secret_key: str) -> None:
    """Both halves of a key, or neither."""
    if bool(access_key) != bool(secret_key):
        missing = "secret_key" if access_key else "access_key"
        raise SettingError(
            f"{missing} is empty; a key has both halves or none (none means the machine's own identity):"
            f" set {missing} with `pulumi config set --secret`, or remove the other half"
        )
