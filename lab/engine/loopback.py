"""The embedded engine is for the lab: a provider whose settings name any other machine is refused."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

from lab.engine.errors import ResourceError
from lab.engine.values import has_unknown, reveal

_REMEDY: Final = "give it the lab's addresses, or use the Pulumi CLI (--engine cli) for anything outside this machine"
_MUST_NAME: Final = {"aws": "endpoints", "kubernetes": "kubeconfig"}
"""Settings without which a provider of this package would look for its target elsewhere."""


def refuse_others(urn: str, package: str, inputs: Mapping[str, Any]) -> None:
    """Raise ResourceError unless every address in a provider's settings is of 127.0.0.0/8."""
    settings = {key: _decoded(value) for key, value in reveal(dict(inputs)).items()}
    must = _MUST_NAME.get(package)
    if must is not None and not has_unknown(settings.get(must)):
        found = [url for _, url in _urls(settings.get(must), must)]
        if not found:
            raise ResourceError(
                urn,
                f"{must} names no address; the embedded engine has to know that it stays on this machine: {_REMEDY}",
            )
    for place, url in _urls(settings, ""):
        if not _is_loopback(url):
            raise ResourceError(urn, f"{place} is {url!r}; the embedded engine talks to 127.0.0.0/8 only: {_REMEDY}")


def _decoded(value: Any) -> Any:
    """Settings that are not text arrive as JSON in a string; a kubeconfig may be YAML."""
    if not isinstance(value, str) or (value[:1] not in "{[" and "\n" not in value):
        return value
    try:
        return json.loads(value)
    except ValueError:
        pass
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value


def _urls(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _urls(item, f"{place}.{key}".removeprefix("."))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _urls(item, f"{place}[{index}]")
    elif isinstance(value, str) and "://" in value and urlsplit(value).scheme in {"http", "https"}:
        yield place, value


def _is_loopback(url: str) -> bool:
    try:
        return ipaddress.IPv4Address(urlsplit(url).hostname or "") in ipaddress.ip_network("127.0.0.0/8")
    except ValueError:
        return False
