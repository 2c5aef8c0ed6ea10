"""What is written of the rules, and the names they go by, are those of the code and of the SDKs."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import infra.policies
from infra import naming
from infra.policies import cluster, kept, sites, table
from infra.policies.pods import SITE
from infra.policies.rules import RULES
from stacks import contract

POLICIES = Path(infra.policies.__file__).parent
TOKEN = re.compile(r'"((?:aws|kubernetes):[\w.-]+/\w+:\w+)"')


def test_the_page_lists_the_rules_as_they_are() -> None:
    page = table.PAGE.read_text(encoding="utf-8")
    assert table.written(page) == page, "docs/policies.md is not today's: python -m infra.policies.table"
    assert all(f'<a id="{rule.name}"></a>`{rule.name}` |' in page for rule in RULES), "a preview links to each rule"


def test_outputs_that_rules_read_are_of_the_contract() -> None:
    assert set(sites.POOL_KEYS) <= set(contract.PoolOutputs.keys())
    assert {*sites.SERVING_KEYS, *sites.DIGEST_KEYS} <= set(contract.ServingOutputs.keys())
    assert {sites.PEAK, "sites"} <= set(contract.TrafficOutputs.keys())
    assert {"weight"} <= set(contract.SiteEndpoint.keys())


def test_labels_and_tags_that_rules_read_are_those_that_are_set() -> None:
    assert SITE == naming.SITE_KEY
    assert kept.ROLE_TAG == naming.ROLE_KEY
    assert cluster.ENVIRONMENT == contract.ENVIRONMENT_LABEL


def tokens() -> list[str]:
    found = {token for path in POLICIES.glob("*.py") for token in TOKEN.findall(path.read_text(encoding="utf-8"))}
    return sorted(found)


def test_types_are_found_in_the_code() -> None:
    assert len(tokens()) > 30


@pytest.mark.parametrize("token", [token for token in tokens() if token.startswith("aws:")])
def test_a_type_of_aws_is_one_the_sdk_has(token: str) -> None:
    """A type misspelt in a rule would be a rule that never says anything."""
    module = token.split(":")[1].split("/")[0]
    source = Path(next(iter(importlib.import_module("pulumi_aws").__path__))) / module
    assert any(f"'{token}'" in path.read_text(encoding="utf-8") for path in source.glob("*.py")), token


@pytest.mark.parametrize("token", [token for token in tokens() if token.startswith("kubernetes:")])
def test_a_type_of_kubernetes_is_one_the_sdk_has_or_a_custom_one(token: str) -> None:
    group, version, kind = re.fullmatch(r"kubernetes:([\w.-]+)/(v\w+):(\w+)", token).groups()  # type: ignore[union-attr]
    custom = {"cluster.x-k8s.io": "MachineDeployment", "keda.sh": "ScaledObject"}
    if group in custom:
        assert kind == custom[group]
        return
    source = Path(next(iter(importlib.import_module("pulumi_kubernetes").__path__)))
    folders = [source / group.split(".")[0] / version, source / "helm" / version]
    assert any(f'"{token}"' in path.read_text(encoding="utf-8") for folder in folders for path in folder.glob("*.py"))


def test_no_rule_reads_a_clock_a_file_or_a_network() -> None:
    """They are pure: what is declared goes in, what is wrong comes out."""
    allowed = {"collections", "__future__", "dataclasses", "typing", "re", "json", "itertools", "ipaddress", "infra"}
    allowed |= {"functools", "urllib"}
    for module in pkgutil.iter_modules([str(POLICIES)]):
        if module.name in ("pack", "table"):
            continue
        text = (POLICIES / f"{module.name}.py").read_text(encoding="utf-8")
        named = {line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))}
        assert named <= allowed, module.name
