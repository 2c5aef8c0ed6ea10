"""Whether a manifest is what Kubernetes 1.34, or the project that defines its kind, takes; unknown fields are errors.

Built-in kinds are judged by the strict schemas of the package kubernetes-validate, custom ones by the facts in
custom.toml. A value that a preview cannot know fits where it stands.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any, Final

import jsonschema  # type: ignore[import-untyped]  # its types are a package of their own
from referencing import Registry, Resource

from lab.providers.values import UNKNOWN_TEXT as UNKNOWN
from lab.schemas.custom import FILE, OPEN, UNKNOWN_FIELD, definition, faults

VERSION: Final = "1.34"
_FOLDER: Final = f"v{VERSION}.0-local-strict"
_DEFINITIONS: Final = "_definitions.json"
_META: Final = {
    "$ref": "https://kubernetes.io/api/_definitions.json#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
}
_SECRET: Final = ("data", "stringData")


def known(api_version: str, kind: str) -> str | None:
    """The schema a kind is judged by; None where there is none."""
    if _built_in(api_version, kind) is not None:
        return f"Kubernetes {VERSION}"
    found = definition(api_version, kind)
    return f"{found.project} CRD" if found else None


def errors(manifest: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with a manifest: where, which value, which rule."""
    api_version, kind = str(manifest.get("apiVersion") or ""), str(manifest.get("kind") or "")
    schema = _built_in(api_version, kind)
    if schema is not None:
        return list(_strict(schema, manifest, secret=kind == "Secret"))
    found = definition(api_version, kind)
    if found is None:
        rule = f"is in no schema here; correct it, or note in {FILE} what its published definition says"
        return [f"kind: {kind!r} of {api_version!r} {rule}"]
    wrong = [
        f"{each.path}: {each.message}{f'; {found.remedy}' if each.reason == UNKNOWN_FIELD else ''}"
        for each in faults(found.schema, manifest, unknown=UNKNOWN)
    ]
    meta = manifest.get("metadata", {})
    return wrong + [f"metadata.{each}" for each in _strict(_META, meta)]


def properties(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Paths of every value given, each once: `[]` for items of a list, `*` for keys of a map, an open object whole."""
    schema = _schema(manifest)
    seen: dict[str, None] = {}
    for name, value in manifest.items():
        if name not in ("apiVersion", "kind"):
            inner = _META if name == "metadata" else _field(schema, name)
            seen.update(dict.fromkeys(_leaves(inner, value, name)))
    return iter(seen)


def _schema(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    api_version, kind = str(manifest["apiVersion"]), str(manifest["kind"])
    found = definition(api_version, kind)
    return _built_in(api_version, kind) or (found.schema if found else {})


def _leaves(schema: Mapping[str, Any], value: Any, path: str) -> Iterator[str]:
    schema = _resolved(schema)
    items, fields, others = schema.get("items"), schema.get("properties"), schema.get("additionalProperties")
    if isinstance(items, Mapping) and value and (isinstance(value, list) or value == UNKNOWN):
        for item in value if isinstance(value, list) else [value]:
            yield from _leaves(items, item, f"{path}[]")
    elif isinstance(value, Mapping) and value and fields:
        for name, item in value.items():
            yield from _leaves(_field(schema, name), item, f"{path}.{name}")
    elif isinstance(others, Mapping) and value and (isinstance(value, Mapping) or value == UNKNOWN):
        for item in value.values() if isinstance(value, Mapping) else [value]:
            yield from _leaves(others, item, f"{path}.*")
    else:
        yield path


def _field(schema: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (_resolved(schema).get("properties") or {}).get(name) or {OPEN: True}
    return found


def _resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = str(schema.get("$ref", "")).rpartition("/")[2]
    found: Mapping[str, Any] = _read(_DEFINITIONS)["$defs"][reference] if reference else schema
    return found


def _strict(schema: Mapping[str, Any], value: Any, *, secret: bool = False) -> Iterator[str]:
    for error in _validator(json.dumps(schema)).iter_errors(value):
        if error.instance == UNKNOWN:
            continue
        path = _path(error.absolute_path)
        if error.validator == "additionalProperties":
            named = (_resolved(error.schema).get("properties") or {}).keys()
            for name in sorted(set(error.instance) - set(named)):
                yield f"{path + '.' if path else ''}{name}: unknown field"
        elif secret and path.startswith(_SECRET):
            yield f"{path}: <value omitted> is not what a Secret holds there: text"
        else:
            yield f"{path}: {error.message[:200]}" if path else str(error.message[:200])


def _path(steps: Iterable[str | int]) -> str:
    text = ""
    for step in steps:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


@cache
def _validator(schema: str) -> Any:
    """A validator is compiled once a kind."""
    registry: Registry[Any] = Resource.from_contents(_read(_DEFINITIONS)) @ Registry()
    return jsonschema.Draft202012Validator(json.loads(schema), registry=registry)


@cache
def _built_in(api_version: str, kind: str) -> Mapping[str, Any] | None:
    """A kind's own file refers to the definitions; the group's domain is no part of its name."""
    group, slash, version = api_version.rpartition("/")
    name = f"{kind.lower()}-{group.partition('.')[0]}{'-' if slash else ''}{version}.json"
    try:
        return _read(name)
    except FileNotFoundError:
        return None


@cache
def _read(name: str) -> dict[str, Any]:
    folder = resources.files("kubernetes_validate") / "kubernetes-json-schema" / _FOLDER
    found: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    return found
