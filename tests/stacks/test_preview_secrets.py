"""Secrets planted in settings reach the programs, and nothing that a preview prints or leaves behind."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from stacks.contract import StackName
from stacks.preview import comment, digest, text
from stacks.preview.report import Report
from stacks.preview.run import preview_programs
from stacks.workspace import Workspace

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
ENV = "prod"
MANAGEMENT = "tandem:management_kubeconfig"
CANARIES = (
    "CANARYKEYOFASTORE001",
    'canary/"of"\\a+store=2',
    "canary-ü-of-serving-3",
    "canary-token-4",
    "-----BEGIN KEY-----\ncanary5\n-----END KEY-----\n",
)
"""One in every shape a credential comes in: an identifier, quotes and a backslash, other letters, several lines."""


@dataclass(frozen=True)
class Seen:
    """A preview in every form, and what else a person or a job could come across."""

    report: Report
    printed: Mapping[str, str]
    files: tuple[Path, ...]


def written(home: Path, stack: str, config: Mapping[str, Any]) -> None:
    folder = home / ENV / "config"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"Pulumi.{stack}.{ENV}.yaml"
    path.write_text(yaml.safe_dump({"config": dict(config)}, allow_unicode=True), encoding="utf-8")


def management(**user: str) -> dict[str, Any]:
    """The tracked kubeconfig of the management cluster, with a credential in the place of its plugin."""
    config: dict[str, Any] = Workspace.of(ENV, ROOT).settings(StackName.parse(f"pool-private.{ENV}"))[MANAGEMENT]
    return {**config, "users": [{**each, "user": user} for each in config["users"]]}


def reached_at(server: str) -> dict[str, Any]:
    """The tracked kubeconfig of the private site's own cluster, at another address."""
    settings = Workspace.of(ENV, ROOT).settings(StackName.parse(f"pool-private.{ENV}"))
    config: dict[str, Any] = settings["tandem:kubeconfig"]
    return {**config, "clusters": [{**each, "cluster": {"server": server}} for each in config["clusters"]]}


def seen(folder: Path, settings: Mapping[str, Mapping[str, Any]], capfd: Any, monkeypatch: pytest.MonkeyPatch) -> Seen:
    """The preview of prod with these settings over the tracked ones; its temporary files have their own folder."""
    home, temporary = folder / "home", folder / "temporary"
    temporary.mkdir()
    for stack, config in settings.items():
        written(home, stack, config)
    given = set(home.rglob("*"))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    capfd.readouterr()
    report = preview_programs(Workspace(ENV, ROOT, home))
    said = capfd.readouterr()
    printed = {
        "text": "\n".join(line.plain for line in text.lines(report)),
        "changes": "\n".join(line.plain for each in report.stacks for line in text.changes(report, each)),
        "json": json.dumps(digest.document(report), indent=2),
        "json as it is": json.dumps(digest.document(report), ensure_ascii=False),
        "markdown": comment.markdown(report),
        "output": said.out,
        "errors": said.err,
    }
    left = [path for path in folder.rglob("*") if path not in given and path.is_file()]
    return Seen(report, printed, tuple(left))


def shapes(canary: str) -> Iterator[str]:
    """Ways in which a secret would still be readable."""
    yield canary
    yield json.dumps(canary)[1:-1]
    yield json.dumps(canary, ensure_ascii=False)[1:-1]
    yield repr(canary)[1:-1]
    yield base64.b64encode(canary.encode()).decode()


def check(found: Seen) -> None:
    for form, printed in found.printed.items():
        for number, canary in enumerate(CANARIES, 1):
            for shape in shapes(canary):
                assert shape not in printed, f"canary {number} stands in the {form}"
        assert "canary" not in printed.lower(), f"a part of a canary stands in the {form}"
    assert found.files == (), "a preview leaves no file behind"


def test_five_planted_secrets_are_in_nothing_that_is_printed_or_left(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = {
        "storage-public": {"tandem:access_key": CANARIES[0], "tandem:secret_key": CANARIES[1]},
        "serving-private": {
            "tandem:store_secret": "",
            "tandem:access_key": "the-other-half",
            "tandem:secret_key": CANARIES[2],
        },
        "pool-private": {
            MANAGEMENT: management(token=CANARIES[3], **{"client-key-data": CANARIES[4]}),
            # One of them a second time, in a setting that nobody calls secret.
            "tandem:kubeconfig": reached_at(f"https://k8s.private.tandem.example:6443/{CANARIES[0]}"),
        },
    }
    found = seen(tmp_path, planted, capfd, monkeypatch)
    assert not any(stack.errors for stack in found.report.stacks), found.printed["text"]
    declared = json.dumps([change.new.inputs for s in found.report.stacks for change in s.changes if change.new])
    reached = json.loads(json.dumps(declared))
    for number, canary in enumerate(CANARIES, 1):
        once = json.dumps(canary)[1:-1]
        assert once in reached or json.dumps(once)[1:-1] in reached, (
            f"canary {number} reached no program: it proves nothing"
        )
    assert found.printed["json"].count("[secret]") >= len(CANARIES) - 1
    check(found)


def test_settings_that_are_refused_are_refused_without_their_secrets(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = {
        "storage-public": {"tandem:access_key": CANARIES[0]},
        "traffic": {"tandem:secret_key": CANARIES[1]},
        "serving-private": {
            "tandem:access_key": CANARIES[2],
            "tandem:secret_key": CANARIES[2],
            "tandem:edge_port": "x",
        },
        "pool-private": {
            "tandem:kubeconfig": management(token=CANARIES[3]),
            MANAGEMENT: management(**{"client-key-data": CANARIES[4]}),
        },
    }
    found = seen(tmp_path, refused, capfd, monkeypatch)
    errors = {stack.stack: stack.errors for stack in found.report.stacks if stack.errors}
    assert {f"{name}.{ENV}" for name in refused} <= set(errors)
    assert "secret_key is empty" in found.printed["text"], "it says what is wrong"
    check(found)


def test_an_encrypted_setting_is_previewed_without_its_key(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    encrypted = {"secure": "v1:CANARYKEYOFASTORE001:canary-token-4"}
    planted = {
        "storage-public": {"tandem:access_key": encrypted, "tandem:secret_key": encrypted},
        "pool-private": {MANAGEMENT: {**management(), "users": [{"name": "oidc", "user": {"token": encrypted}}]}},
    }
    found = seen(tmp_path, planted, capfd, monkeypatch)
    assert not found.report.failed, found.printed["text"]
    check(found)
