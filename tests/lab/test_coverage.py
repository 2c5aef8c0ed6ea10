"""`tandem lab coverage`: every property the programs use is told of, and what is said of it is true."""

from __future__ import annotations

import ast
import json
import subprocess
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lab.cli import app
from lab.coverage import CoverageError, declared, table, text
from lab.coverage.declared import Resource, resources_of
from lab.coverage.table import Known, Row, idle, known, reason, rows, unexplained, used
from stacks.preview.digest import document
from stacks.preview.report import report
from stacks.workspace import ROOT
from tests.previewed import as_previewed

EIP, TOPIC, QUEUE = "aws:ec2/eip:Eip", "aws:sns/topic:Topic", "v1 ResourceQuota"
PROOF = "tests/lab/test_coverage.py::test_every_proof_is_a_test_that_exists"
DECLARED = [
    Resource(EIP, {"domain": "vpc", "tags": {"a": "b"}}),
    Resource(TOPIC, {"kmsMasterKeyId": "k", "tags": {}}),
    Resource("tandem:edge:Edge", {}),
    Resource("pulumi:providers:aws", {"region": "eu-central-1"}),
    Resource(
        "kubernetes:core/v1:ResourceQuota",
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "q"},
            "spec": {"hard": {"pods": "3", "requests.cpu": "4"}},
        },
    ),
]
BY_HAND = Known({EIP: {"tags.*": PROOF}, table.EVERY_KIND: {"metadata.name": PROOF}}, {})


def of_env(env: str) -> list[Resource]:
    """What the command reads, made without starting it: the programs are evaluated once for all tests."""
    found = as_previewed(env)
    return list(resources_of(json.loads(json.dumps(document(report(env, list(found.stacks), None, found, ""))))))


@cache
def told() -> list[Row]:
    return rows([resource for env in declared.ENVIRONMENTS for resource in of_env(env)])


def test_every_property_that_no_schema_checks_is_acted_on_or_explained() -> None:
    assert unexplained(told()) == []


def test_no_entry_kept_by_hand_is_of_a_property_that_no_program_uses() -> None:
    assert idle(told()) == []


def named_in(path: Path) -> set[str]:
    """The tests of a file, those of classes as `Class::test`."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        found |= {prefix + each.name for each in inner if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    return {name for name in found if name.rpartition("::")[2].startswith("test_")}


def lacking(by_hand: Known) -> list[str]:
    files: dict[str, set[str]] = {}
    wrong = []
    for proof in sorted({proof for entries in by_hand.acted.values() for proof in entries.values()}):
        path, _, name = proof.partition("::")
        if path not in files:
            files[path] = named_in(ROOT / path) if (ROOT / path).is_file() else set()
        if name not in files[path]:
            wrong.append(proof)
    return wrong


def test_every_proof_is_a_test_that_exists() -> None:
    assert lacking(known()) == []


@pytest.mark.parametrize(
    "proof",
    [
        "tests/lab/test_absent.py::test_every_proof_is_a_test_that_exists",
        "tests/lab/test_coverage.py::test_absent",
        "tests/lab/test_coverage.py::named_in",
        "tests/lab/test_kubernetes_api_store.py::test_of_labels",
    ],
    ids=["no file", "no test", "no test, but a function", "a test of a class without it"],
)
def test_a_proof_that_is_not_there_is_seen(proof: str) -> None:
    assert lacking(Known({EIP: {"domain": proof}}, {})) == [proof]


def test_the_table_kept_by_hand_is_sorted() -> None:
    content = tomllib.loads(resources.files("lab.coverage").joinpath("acted.toml").read_text(encoding="utf-8"))
    aws = [kind for kind in content["acted"] if kind.startswith("aws:")]
    groups = [kind for kind in content["acted"] if kind in (table.EVERY_KIND, table.POD_TEMPLATE)]
    others = [kind for kind in content["acted"] if kind not in {*aws, *groups}]
    assert list(content["acted"]) == [*sorted(aws), *groups, *sorted(others)]
    for entries in content["acted"].values():
        assert list(entries) == sorted(entries)


def test_the_page_of_the_docs_is_what_is_generated_now() -> None:
    written = (ROOT / "docs" / "lab-coverage.md").read_text(encoding="utf-8")
    assert written == text.markdown(told()), "run: tandem lab coverage --format markdown > docs/lab-coverage.md"


def test_a_property_is_acted_on_if_a_test_proves_it_else_validated_else_recorded() -> None:
    assert [(row.kind, row.property, row.standing, row.by) for row in rows(DECLARED, BY_HAND)] == [
        (EIP, "domain", "validated", "ec2 AllocateAddress.Domain: one of 2"),
        (EIP, "tags.*", "acted on", PROOF),
        (TOPIC, "kmsMasterKeyId", "recorded only", ""),
        (QUEUE, "metadata.name", "acted on", PROOF),
        (QUEUE, "spec.hard.*", "validated", "Kubernetes 1.34"),
    ]


def test_what_is_said_of_a_pod_template_holds_for_every_kind_that_has_one() -> None:
    by_hand = Known({table.POD_TEMPLATE: {"spec.containers[].image": PROOF}}, {})
    for kind, path in table.TEMPLATES.items():
        assert by_hand.proof(kind, f"{path}spec.containers[].image") == PROOF
    assert by_hand.proof("v1 Pod", "spec.containers[].image") == ""
    assert by_hand.proof("apps/v1 Deployment", "spec.containers[].image") == ""


def test_a_map_a_preview_knows_nothing_of_is_told_once() -> None:
    unknown = Resource(EIP, {"tags": "04da6b54-80e4-46f7-96ec-b56ff0331ba9"})
    assert [row.property for row in rows([unknown, DECLARED[0]], BY_HAND)] == ["domain", "tags.*"]


def test_a_property_without_place_or_reason_is_asked_about() -> None:
    strange = rows([Resource(EIP, {"colour": "red"}), Resource(TOPIC, {"kmsMasterKeyId": "k"})], BY_HAND)
    assert [(row.kind, row.property) for row in unexplained(strange, BY_HAND)] == [(EIP, "colour")]
    excused = Known({}, {EIP: {"colour": "nobody sees it"}})
    assert unexplained(strange, excused) == []
    assert reason(strange[0], excused) == "nobody sees it"
    assert "attributes" in reason(strange[1])


def test_an_entry_that_no_program_uses_any_more_is_seen() -> None:
    by_hand = Known(
        {EIP: {"tags.*": PROOF, "address": PROOF}, table.POD_TEMPLATE: {"spec.nodeName": PROOF}},
        {"helm.sh/v3 Release": {"*": "no chart"}, EIP: {"domain": "checked by now"}},
    )
    assert idle(rows(DECLARED, by_hand), by_hand) == [
        f"{EIP}: address",
        "pod template: spec.nodeName",
        "helm.sh/v3 Release: *",
        f"{EIP}: domain",
    ]


def test_components_and_providers_have_no_coverage() -> None:
    assert not [row for resource in DECLARED[2:4] for row in used(resource)]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    monkeypatch.setattr(declared, "declared", lambda: DECLARED)
    return CliRunner().invoke(app, ["coverage", *arguments])


def test_the_command_counts_per_kind_in_columns_and_sums_up_last(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(monkeypatch)
    assert done.exit_code == 0
    head, *counted, last = done.stdout.splitlines()
    assert head.split("  ")[0] == "kind"
    assert [line.split()[-3:] for line in counted] == [["1", "1", "0"], ["0", "0", "1"], ["2", "0", "0"]]
    assert len({len(line) for line in (head, *counted)}) == 1, "aligned"
    assert last == "5 properties of 3 kinds: 3 acted on, 1 validated, 1 recorded only"


def test_a_filter_shows_each_property_with_what_it_rests_on(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(monkeypatch, "--kind", "SNS")
    assert done.stdout.splitlines()[1].split()[:4] == [TOPIC, "kmsMasterKeyId", "recorded", "only"]
    assert "does not list" in done.stdout
    assert EIP not in done.stdout
    refused = run(monkeypatch, "--kind", "queue of messages")
    assert (refused.exit_code, refused.stdout) == (1, "")


def test_machines_get_every_row_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    found = json.loads(run(monkeypatch, "--format", "json").stdout)
    assert found["summary"] == {"acted on": 3, "validated": 1, "recorded only": 1}
    assert found["rows"][0].keys() == {"kind", "property", "standing", "by"}
    assert [row["property"] for row in found["rows"] if "reason" in row] == ["kmsMasterKeyId"]


def test_the_page_has_a_part_for_each_kind_and_what_has_no_counterpart(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = run(monkeypatch, "--format", "markdown").stdout.splitlines()
    assert [line for line in lines if line.startswith("## ")] == [
        f"## {EIP}",
        f"## {TOPIC}",
        f"## {QUEUE}",
        "## Without a counterpart in AWS's models",
    ]
    assert f"| {QUEUE} | 2 |  |  |" in lines
    assert any(line.startswith(f"| {TOPIC} | `kmsMasterKeyId` | ") for line in lines)


def previewing(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[Mapping[str, Any]]:
    asked: list[Mapping[str, Any]] = []

    def answer(command: list[str], *, env: Mapping[str, str], **_: Any) -> subprocess.CompletedProcess[str]:
        served = sorted((Path(env["TANDEM_HOME"]) / "lab" / "config").glob("*.yaml"))
        asked.append({"command": command, "served": [path.name for path in served]})
        return subprocess.CompletedProcess(command, 0, answers[len(asked) - 1], "what it said")

    monkeypatch.setattr(subprocess, "run", answer)
    return asked


def test_the_programs_are_previewed_for_both_environments_by_tracked_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    step = {"newState": {"type": EIP, "inputs": {"domain": "vpc"}}}
    whole = json.dumps({"stacks": {"pool-public.lab": {"diagnostics": [], "steps": [step]}}})
    asked = previewing(monkeypatch, whole, whole)
    assert declared.declared() == [Resource(EIP, {"domain": "vpc"})] * 2
    assert [each["command"][-3] for each in asked] == ["lab", "prod"]
    assert asked[0]["served"] == ["Pulumi.serving-private.lab.yaml", "Pulumi.serving-public.lab.yaml"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("", "lab cannot be previewed: what it said"),
        ('{"stacks": {"a.lab": {"diagnostics": [{"message": "no zone"}], "steps": []}}}', "a.lab cannot be evaluated"),
    ],
    ids=["no preview", "a stack fails"],
)
def test_programs_that_cannot_be_previewed_are_told(monkeypatch: pytest.MonkeyPatch, answer: str, said: str) -> None:
    previewing(monkeypatch, answer)
    with pytest.raises(CoverageError, match=said):
        declared.declared()
