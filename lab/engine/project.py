"""Pulumi.yaml and a stack's settings, read with the real engine's rules."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from lab.engine.errors import ProjectError

PROJECT_FILE: Final = "Pulumi.yaml"


class _Loader(yaml.SafeLoader):
    """YAML 1.2 as Pulumi reads it: no dates, and only true and false are booleans."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - replaces the base class's table, which is not annotated
        first: [
            (tag, pattern)
            for tag, pattern in resolvers
            if tag not in {"tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:bool"}
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


@dataclass(frozen=True)
class Declaration:
    """One key of the `config:` block."""

    key: str
    type: str | None
    items: Mapping[str, Any] | None
    default: Any
    secret: bool

    @property
    def type_name(self) -> str:
        """The type as a message names it."""
        return f"array<{(self.items or {}).get('type')}>" if self.type == "array" else str(self.type)


@dataclass(frozen=True)
class Project:
    """What Pulumi.yaml says."""

    name: str
    root: Path
    main: Path
    declared: tuple[Declaration, ...]


@dataclass(frozen=True)
class Settings:
    """A stack's settings as the program receives them: text, objects as JSON."""

    values: dict[str, str]
    secret_keys: frozenset[str]

    def masked(self) -> dict[str, str]:
        """The settings as they may be shown."""
        return {key: "[secret]" if key in self.secret_keys else value for key, value in sorted(self.values.items())}


def load_yaml(path: Path) -> dict[str, Any]:
    """A YAML file whose top is a mapping."""
    try:
        # The loader is SafeLoader with fewer implicit types.
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader) or {}  # noqa: S506
    except FileNotFoundError as error:
        raise ProjectError(f"{path} is not there; the engine needs it: name an existing file or folder") from error
    except yaml.YAMLError as error:
        raise ProjectError(f"{path} is no YAML: {error}; correct the file") from error
    if not isinstance(content, dict):
        raise ProjectError(f"{path} holds a {type(content).__name__}; its top has to be a mapping: correct the file")
    return content


def load_project(root: Path, program: Path | None = None) -> Project:
    """Pulumi.yaml of `root`; `program` overrides its `main`."""
    content = load_yaml(root / PROJECT_FILE)
    name = content.get("name")
    if not isinstance(name, str) or not name:
        raise ProjectError(f"{root / PROJECT_FILE} has no name; a project needs one: add `name: tandem`")
    runtime = content.get("runtime")
    language = runtime.get("name") if isinstance(runtime, dict) else runtime
    if language != "python":
        raise ProjectError(f"{root / PROJECT_FILE} has runtime {language!r}; this engine runs python programs only")
    main = program or root / str(content.get("main") or ".")
    if not (main / "__main__.py").is_file():
        raise ProjectError(
            f"{main} holds no __main__.py; a program is a folder with one: correct `main` in {PROJECT_FILE}"
        )
    return Project(
        name,
        root.resolve(),
        main.resolve(),
        tuple(_declaration(name, *item) for item in (content.get("config") or {}).items()),
    )


def _declaration(project: str, key: str, spec: Any) -> Declaration:
    spec = spec if isinstance(spec, dict) else {"default": spec}
    default = spec["value"] if "value" in spec else spec.get("default")
    full = key if ":" in key else f"{project}:{key}"
    declared = Declaration(full, spec.get("type"), spec.get("items"), default, bool(spec.get("secret")))
    if (
        declared.type is not None
        and default is not None
        and not _fits(declared.type, declared.items, default, exact=True)
    ):
        raise ProjectError(
            f"{PROJECT_FILE}: the default of {full} is {default!r}; it must be of type {declared.type_name}: correct"
            " the default"
        )
    return declared


def load_settings(project: Project, path: Path | None, stack: str) -> Settings:
    """The settings of a stack: its file, the declared defaults under it, types checked."""
    given = (load_yaml(path).get("config") or {}) if path else {}
    for key, value in given.items():
        if ":" not in str(key):
            raise ProjectError(
                f"{path}: {key!r} has no namespace; keys of a stack file read <namespace>:<key>: write"
                f" {project.name}:{key}"
            )
        if _encrypted(value):
            raise ProjectError(
                f"{path}: {key} is encrypted; the embedded engine holds no key to it:"
                " override it with a plain lab value, or use the Pulumi CLI (--engine cli)"
            )
    merged = dict(given)
    missing = []
    for each in project.declared:
        if each.key not in merged and each.default is not None:
            merged[each.key] = each.default
        elif each.key not in merged and each.key.startswith(f"{project.name}:"):
            missing.append(each.key)
        elif each.type is not None and not _fits(each.type, each.items, merged[each.key]):
            raise ProjectError(
                f"Stack {stack!r}: {each.key} is {'[secret]' if each.secret else repr(merged[each.key])};"
                f" it must be of type {each.type_name}: correct {path or PROJECT_FILE}"
            )
    if missing:
        raise ProjectError(
            f"Stack {stack!r} is missing configuration: {', '.join(sorted(missing))}; set it in {path}, or give it a"
            f" default in {PROJECT_FILE}"
        )
    secret = frozenset(each.key for each in project.declared if each.secret and each.key in merged)
    return Settings({str(key): as_text(value) for key, value in merged.items()}, secret)


def _encrypted(value: Any) -> bool:
    if isinstance(value, dict):
        return set(value) == {"secure"} or any(_encrypted(item) for item in value.values())
    return isinstance(value, list) and any(_encrypted(item) for item in value)


def _fits(kind: str, items: Mapping[str, Any] | None, value: Any, *, exact: bool = False) -> bool:
    """Whether the value is of the type; at the top of a stack file any scalar is text to Pulumi, else it is `exact`."""
    if kind == "string":
        return isinstance(value, str) if exact else not isinstance(value, dict | list) and value is not None
    if kind == "integer":
        whole = (isinstance(value, int) and not isinstance(value, bool)) or (
            isinstance(value, float) and value.is_integer()
        )
        return whole or (isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value) is not None)
    if kind == "boolean":
        return isinstance(value, bool) or value in {"true", "false"}
    if kind == "object":
        return isinstance(value, dict)
    if kind != "array" or not isinstance(value, list) or items is None:
        return False
    return all(_fits(str(items.get("type")), items.get("items"), item, exact=True) for item in value)


def as_text(value: Any) -> str:
    """A setting the way the engine hands it to a program."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict | list):
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value)
