"""Custom resources fit the definitions their projects publish; those are in no package, so the folder is named.

TANDEM_DEFINITIONS is a folder with the projects' CustomResourceDefinitions, anywhere below it, as *.yaml.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # its types are a package of their own
import pytest
import yaml
from test_schemas_kubernetes import CERTIFICATE, MONITOR, SCALED, of_drills, of_previews, other_settings

from lab.providers.values import UNKNOWN_TEXT
from lab.schemas import custom
from lab.schemas.custom import OPEN

FOLDER = os.environ.get("TANDEM_DEFINITIONS", "")
PLACED = {"apiVersion": {}, "kind": {}, "metadata": {}}
"""Judged by the API itself, with rules no definition repeats."""

pytestmark = pytest.mark.skipif(not FOLDER, reason="TANDEM_DEFINITIONS names no folder of published definitions")


@cache
def published() -> dict[tuple[str, str], Any]:
    """A validator for each version of the kinds that are declared."""
    found = {}
    kinds = "|".join(kind for _, kind in custom.definitions())
    named = re.compile(rf"^    kind: (?:{kinds})$", re.MULTILINE)
    for path in sorted(Path(FOLDER).rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        for document in yaml.safe_load_all(text) if named.search(text) else ():
            if isinstance(document, dict) and document.get("kind") == "CustomResourceDefinition":
                spec = document["spec"]
                for version in spec["versions"]:
                    schema = closed(version["schema"]["openAPIV3Schema"])
                    schema["properties"] |= PLACED
                    name = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                    found[name] = jsonschema.Draft202012Validator(schema)
    return found


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """As strict validation reads it: a field it does not name is an error."""
    found = dict(schema)
    if found.pop("nullable", False) and "type" in found:
        found["type"] = [found["type"], "null"]
    if "properties" in found:
        found["properties"] = {name: closed(each) for name, each in found["properties"].items()}
        if not found.get(OPEN):
            found.setdefault("additionalProperties", False)
    for inner in ("items", "additionalProperties"):
        if isinstance(found.get(inner), dict):
            found[inner] = closed(found[inner])
    return found


def wrong(manifest: Mapping[str, Any]) -> Iterator[str]:
    judge = published()[manifest["apiVersion"], manifest["kind"]]
    for error in judge.iter_errors(manifest):
        if error.instance != UNKNOWN_TEXT:
            yield f"{manifest['kind']} {error.json_path}: {error.message}"


def test_every_custom_resource_fits_what_its_project_publishes() -> None:
    made = [*of_previews("lab"), *of_previews("prod"), *other_settings(), *of_drills()]
    judged = [each for each in made if (each["apiVersion"], each["kind"]) in custom.definitions()]
    assert [fault for each in judged for fault in wrong(each)] == []
    assert {(each["apiVersion"], each["kind"]) for each in judged} == set(custom.definitions())


@pytest.mark.parametrize("manifest", [SCALED, CERTIFICATE, MONITOR], ids=lambda each: each["kind"])
def test_a_field_that_nobody_publishes_is_found(manifest: dict[str, Any]) -> None:
    assert list(wrong(manifest)) == []
    misspelled = copy.deepcopy(manifest)
    misspelled["spec"]["secretname"] = "web"
    assert ["secretname" in each for each in wrong(misspelled)] == [True]
