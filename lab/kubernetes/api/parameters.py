"""Reading a request: body, query, who asks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from aiohttp import web

from lab.kubernetes.api.errors import BadRequest, TooLarge, UnsupportedMediaType

BODY_LIMIT: Final = 3 * 1024 * 1024
"""Bytes of a request's body; a real server's limit."""

_JSON: Final = frozenset({"", "application/json", "text/plain", "application/octet-stream"})
_YAML: Final = frozenset({"application/yaml", "application/apply-patch+yaml", "text/yaml", "application/x-yaml"})
_TRUE: Final = frozenset({"true", "1", "t"})


class _Loader(yaml.SafeLoader):
    """YAML whose dates stay text, as JSON has them."""


_Loader.yaml_implicit_resolvers = {
    first: [entry for entry in entries if entry[0] != "tag:yaml.org,2002:timestamp"]
    for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


async def body(request: web.Request, *, accepted: frozenset[str] = frozenset()) -> Any:
    """The decoded body; {} when there is none. `accepted` names media types beyond JSON and YAML."""
    try:
        raw = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise TooLarge(f"Request entity too large: limit is {BODY_LIMIT} bytes") from None
    if not raw.strip():
        return {}
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    try:
        if kind in _YAML and not raw.lstrip().startswith(b"{"):
            return yaml.load(raw, Loader=_Loader)  # noqa: S506  # a SafeLoader without dates
        if kind in _JSON | _YAML | accepted:
            return json.loads(raw, parse_constant=_no_constant)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise BadRequest(f"the body of the request cannot be read as {kind or 'JSON'}: {str(error)[:200]}") from None
    raise UnsupportedMediaType(
        f"the body of the request was in an unknown format ({kind}) - accepted media types include: application/json,"
        " application/yaml",
        lacking=True,
    )


def flag(query: Mapping[str, str], name: str) -> bool:
    """A boolean of the query; absent is false."""
    return query.get(name, "").lower() in _TRUE


def integer(query: Mapping[str, str], name: str) -> int | None:
    """A non-negative integer of the query; BadRequest for anything else."""
    value = query.get(name, "")
    if value == "":
        return None
    if not value.isdecimal():
        raise BadRequest(f"{name}: got {value!r}, want an integer of at least 0")
    return int(value)


@dataclass
class Asked:
    """How a client wants its change made."""

    dry_run: bool
    field_manager: str
    force: bool
    strict: bool
    warn: bool
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, request: web.Request, options: Mapping[str, Any] | None = None) -> Asked:
        """From the query and, for a deletion, from the DeleteOptions in the body."""
        query = request.query
        dry = query.getall("dryRun", []) or list((options or {}).get("dryRun") or [])
        if any(value != "All" for value in dry):
            raise BadRequest(f"dryRun: got {dry!r}, the only value is All")
        validation = query.get("fieldValidation", "Warn") or "Warn"
        if validation not in ("Ignore", "Warn", "Strict"):
            raise BadRequest(f"fieldValidation: got {validation!r}, want Ignore, Warn or Strict")
        agent = request.headers.get("User-Agent", "").partition("/")[0] or "unknown"
        manager = query.get("fieldManager", "") or agent
        if len(manager) > 128 or not manager.isprintable():
            raise BadRequest(f"fieldManager: got {manager[:140]!r}, want at most 128 printable characters")
        return cls(bool(dry), manager, flag(query, "force"), validation == "Strict", validation == "Warn")

    def unknown_fields(self, found: list[str]) -> None:
        """Take note of pruned fields; BadRequest when the client asked for strictness."""
        if self.strict:
            raise BadRequest(f"strict decoding error: {', '.join(found)}; remove them or correct their spelling")
        if self.warn:
            self.warnings += found

    def headers(self) -> list[tuple[str, str]]:
        """Warning headers of the answer."""
        quoted = [warning.replace('"', '\\"') for warning in dict.fromkeys(self.warnings)]
        return [
            ("Warning", f'299 - "{warning}"') for warning in quoted[:50] if warning.isascii() and warning.isprintable()
        ]
