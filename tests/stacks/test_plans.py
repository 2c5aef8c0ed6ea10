"""An `up` is held to what a preview planned, on another machine too; a version's two steps have a plan each."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from engine_fake import Workspace as Programs
from engine_fake import echo_server

from stacks import engine as engines
from stacks import pulumi_cli
from stacks.cli import app
from stacks.contract import StackName
from stacks.plans import Plans
from stacks.pulumi_cli import PACK
from stacks.rollout import previewed
from stacks.runs import EngineError, StackFailed
from stacks.workspace import ROOT, Workspace

STORAGE, SERVING = StackName.parse("storage-private.prod"), StackName.parse("serving-private.prod")
OLD, NEW = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
FAKE = """#!{python}
import json, os, pathlib, sys
words = sys.argv[1:]
options = dict(zip(words, words[1:]))
settings = pathlib.Path(options.get("--config-file", os.devnull)).read_text()
with open(os.environ["FAKE_CALLS"], "a") as calls:
    print(json.dumps({{"words": words, "settings": settings}}), file=calls)
if words[0] == "preview":
    pathlib.Path(options["--event-log"]).write_text(os.environ.get("FAKE_EVENTS", ""))
    if os.environ.get("FAKE_EVENTS"):
        print(json.dumps({{"diagnostics": [{{"severity": "error", "message": "preview failed"}}]}}))
        sys.exit(255)
    if "--save-plan" in options:
        pathlib.Path(options["--save-plan"]).write_text("{{}}")
    with open(options["--config-file"], "a") as file:
        file.write("encryptionsalt: v1:of-" + os.environ["MACHINE"] + "\\n")
    print(json.dumps({{"steps": [], "changeSummary": {{"same": 1}}, "duration": 1}}))
elif words[0] == "up":
    if refusal := os.environ.get("FAKE_REFUSAL"):
        print(json.dumps({{"diagnosticEvent": {{"severity": "error", "message": refusal}}}}))
        sys.exit(255)
    print(json.dumps({{"summaryEvent": {{"resourceChanges": {{"same": 1}}}}}}))
elif words[:2] == ["stack", "output"]:
    print(json.dumps({{"model_digest": "{old}", "accepted_digests": ["{old}"]}}))
"""


class Quiet:
    """A progress that says nothing."""

    def change(self, stack: StackName, op: str, kind: str, name: str) -> None:
        """See Progress."""

    def message(self, stack: StackName, severity: str, text: str) -> None:
        """See Progress."""

    def done(self, stack: StackName, counts: dict[str, int], seconds: float) -> None:
        """See Progress."""


def settings(root: Path, stack: StackName, **values: object) -> None:
    folder = root / "stacks" / "config"
    folder.mkdir(parents=True, exist_ok=True)
    content = {"config": {f"tandem:{key}": value for key, value in values.items()}}
    (folder / f"Pulumi.{stack}.yaml").write_text(yaml.safe_dump(content))


class Cli:
    """A CLI that remembers how it was called."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self._set = root, monkeypatch.setenv
        self._calls = root / "calls"
        binary = root / "bin" / "pulumi"
        binary.parent.mkdir()
        binary.write_text(FAKE.format(python=sys.executable, old=OLD))
        binary.chmod(0o755)
        self._set("PATH", str(binary.parent), prepend=os.pathsep)
        self._set("FAKE_CALLS", str(self._calls))

    def on(self, machine: str, **options: Any) -> tuple[Workspace, engines.Engine]:
        self._set("MACHINE", machine)
        workspace = Workspace("prod", self.root, self.root / machine)
        return workspace, engines.choose("prod", "cli", workspace, **options)

    def calls(self, verb: str) -> list[dict[str, Any]]:
        made = [json.loads(line) for line in self._calls.read_text().splitlines()]
        return [call for call in made if call["words"][0] == verb]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    shutil.copy(ROOT / "Pulumi.yaml", tmp_path)
    settings(tmp_path, STORAGE, kind="private")
    settings(tmp_path, SERVING, model_digest=NEW)
    (tmp_path / PACK).mkdir(parents=True)
    return Cli(tmp_path, monkeypatch)


def test_what_was_planned_on_one_machine_is_what_another_is_held_to(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "plans"
    workspace, planning = cli.on("one", plans=folder)
    previewed(workspace, planning, STORAGE, Quiet(), steps=True)
    assert sorted(path.name for path in folder.iterdir()) == [f"{STORAGE}.encryption", f"{STORAGE}.json"]
    workspace, held = cli.on("two", plan=folder)
    held.up(STORAGE, Quiet())
    [call] = cli.calls("up")
    assert call["words"][call["words"].index("--plan") + 1] == str(folder / f"{STORAGE}.json")
    assert "encryptionsalt: v1:of-one" in call["settings"], "or it could not read a secret of the plan"
    assert "encryptionsalt" not in (workspace.tracked / f"Pulumi.{STORAGE}.yaml").read_text()


def test_without_a_plan_nothing_is_asked_of_one(cli: Cli) -> None:
    _, engine = cli.on("one")
    engine.up(STORAGE, Quiet())
    assert "--plan" not in cli.calls("up")[0]["words"]


def test_both_steps_of_a_new_version_are_planned_and_held_to(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "plans"
    workspace, planning = cli.on("one", plans=folder)
    previewed(workspace, planning, SERVING, Quiet(), steps=True)
    first, whole = (yaml.safe_load(call["settings"])["config"] for call in cli.calls("preview"))
    assert (first["tandem:model_digest"], whole["tandem:model_digest"]) == (OLD, NEW)
    workspace, held = cli.on("two", plan=folder)
    engines.up(workspace, held, Quiet(), [[SERVING]])
    plans = [call["words"][call["words"].index("--plan") + 1] for call in cli.calls("up")]
    assert plans == [str(folder / f"{SERVING}.first.json"), str(folder / f"{SERVING}.json")]
    (folder / f"{SERVING}.first.json").unlink()
    with pytest.raises(StackFailed, match="no plan of the first step of its rollout; preview them"):
        engines.up(workspace, held, Quiet(), [[SERVING]])


def test_a_stack_without_a_plan_keeps_all_from_beginning(tmp_path: Path) -> None:
    plans = Plans(tmp_path)
    plans.path(STORAGE).write_text("{}")
    with pytest.raises(EngineError, match=r"holds no plan of storage-.*\.prod; "):
        plans.check([STORAGE])  # nobody could read the secrets in it
    plans.keep(plans.path(STORAGE), {})
    plans.check([STORAGE])
    with pytest.raises(EngineError, match=r"holds no plan of serving-private\.prod; .*--env prod --engine cli --plans"):
        plans.check([STORAGE, SERVING])


def test_the_command_begins_nothing_that_is_not_planned(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.on("one")
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path / "one"))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    plan = str(tmp_path / "plans")
    with pytest.raises(SystemExit) as ended:
        app(["up", "--env", "prod", "--layer", "storage", "--plan", plan])
    assert ended.value.code == 1
    assert "holds no plan of storage-private.prod, storage-public.prod" in capsys.readouterr().err
    assert not (tmp_path / "calls").exists(), "the CLI was asked nothing"


def test_a_plan_that_no_longer_fits_is_said_with_the_way_on(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, planning = cli.on("one", plans=tmp_path / "plans")
    previewed(workspace, planning, STORAGE, Quiet(), steps=True)
    _, held = cli.on("one", plan=tmp_path / "plans")
    monkeypatch.setenv("FAKE_REFUSAL", "resource urn:x violates plan: properties changed: ~~count[{3}!={4}]")
    with pytest.raises(StackFailed, match=r"count\[\{3\}!=\{4\}\]; settings, programs or what is recorded are not"):
        held.up(STORAGE, Quiet())
    monkeypatch.setenv("FAKE_REFUSAL", "AccessDenied")
    with pytest.raises(StackFailed) as failed:
        held.up(STORAGE, Quiet())
    assert failed.value.reason == "AccessDenied"


BROKEN = {
    "policyName": "imds-v2",
    "message": "Every machine asks for a token.\nhttpTokens is optional: write required\n",
    "resourceUrn": f"urn:pulumi:{STORAGE}::tandem::aws:ec2/launchTemplate:LaunchTemplate::nodes",
    "enforcementLevel": "mandatory",
}
ADVICE = {**BROKEN, "policyName": "disk-encrypted", "enforcementLevel": "advisory"}


def test_what_is_planned_is_held_to_the_rules(cli: Cli, tmp_path: Path) -> None:
    workspace, planning = cli.on("one", plans=tmp_path / "plans", refresh=True)
    previewed(workspace, planning, STORAGE, Quiet(), steps=True)
    planning.up(STORAGE, Quiet())
    [planned], [done] = (cli.calls(verb) for verb in ("preview", "up"))
    assert planned["words"][planned["words"].index("--policy-pack") + 1] == str(tmp_path / PACK)
    assert (ROOT / PACK / "PulumiPolicy.yaml").exists(), "or no preview of ours would be held to a rule"
    assert "--policy-pack" not in done["words"], "or no protection could ever be taken away"


def test_a_broken_rule_is_said_and_leaves_no_plan(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, planning = cli.on("one", plans=tmp_path / "plans")
    events = [{"policyLoadEvent": {}}, {"policyEvent": ADVICE}, {"policyEvent": BROKEN}]
    monkeypatch.setenv("FAKE_EVENTS", "\n".join(map(json.dumps, events)))
    with pytest.raises(StackFailed) as failed:
        previewed(workspace, planning, STORAGE, Quiet(), steps=True)
    assert failed.value.reason == (
        "preview failed\nrule imds-v2 is broken by nodes:"
        " Every machine asks for a token. httpTokens is optional: write required"
    )
    assert list((tmp_path / "plans").iterdir()) == []
    [call] = cli.calls("preview")
    log = Path(call["words"][call["words"].index("--event-log") + 1])
    assert not log.parent.exists(), "events name what is secret"


def test_without_the_rules_sdk_nothing_is_previewed(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, engine = cli.on("one")
    monkeypatch.setattr(pulumi_cli, "find_spec", lambda _: None)
    with pytest.raises(EngineError, match=r"pulumi-policy is not installed.*install it as the Makefile does"):
        engine.preview(STORAGE, Quiet())
    assert not (tmp_path / "calls").exists(), "the CLI was asked nothing"


def test_the_embedded_engine_has_no_plans(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="--plan and --refresh need the Pulumi CLI"):
        engines.choose("lab", "embedded", Workspace("lab", tmp_path, tmp_path), plan=tmp_path)


def test_a_key_in_a_cloud_that_encrypts_is_kept_where_no_setting_is_a_secret(tmp_path: Path) -> None:
    settings(tmp_path, STORAGE, kind="private")
    file = tmp_path / "stacks" / "config" / f"Pulumi.{STORAGE}.yaml"
    file.write_text(f"{file.read_text()}secretsprovider: awskms://alias/t\nencryptedkey: abc\nencryptionsalt: stray\n")
    workspace = Workspace("prod", tmp_path, tmp_path / "home")
    kept = {"secretsprovider": "awskms://alias/t", "encryptedkey": "abc"}
    path = workspace.merge(STORAGE)
    assert workspace.encryption(path) == kept
    workspace.encrypt_alike(path, {"encryptionsalt": "v1:another"})
    assert workspace.encryption(path) == {"encryptionsalt": "v1:another"}
    path.write_text("config: {tandem:access_key: {secure: x}}\nencryptionsalt: v1:its-own\n")
    workspace.encrypt_alike(path, {"encryptionsalt": "v1:another"})
    assert workspace.encryption(path) == {"encryptionsalt": "v1:its-own"}


PROGRAM = """
east = Echo("east", region="east")
opts = ResourceOptions(provider=east)
Thing("thing", name="fixed", slow=0, key=Output.secret("hush"), count=config.require_int("count"), opts=opts)
"""


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with echo_server() as (_, port):
        programs = Programs(tmp_path, port)
        programs.project("  count: {type: integer, default: 1}\n")
        programs.program(PROGRAM)
        (tmp_path / "backend").mkdir()
        for name, value in {
            "PULUMI_BACKEND_URL": f"file://{tmp_path / 'backend'}",
            "PULUMI_CONFIG_PASSPHRASE": "a passphrase",
            "PULUMI_HOME": str(tmp_path / "pulumi"),
            "PULUMI_DEBUG_PROVIDERS": f"echo:{port}",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        }.items():
            monkeypatch.setenv(name, value)
        yield tmp_path


@pytest.mark.live
@pytest.mark.pulumi
@pytest.mark.skipif(shutil.which("pulumi") is None, reason="no pulumi on PATH: plans are the real CLI's")
def test_the_real_cli_does_what_was_planned_elsewhere_and_nothing_else(real: Path) -> None:
    one, two = (Workspace("prod", real, real / machine) for machine in ("one", "two"))
    planning = engines.choose("prod", "cli", one, plans=real / "plans")
    held = engines.choose("prod", "cli", two, plan=real / "plans")
    settings(real, STORAGE, count=2)
    planning.preview(STORAGE, Quiet())
    assert held.up(STORAGE, Quiet()) == {"create": 3}
    settings(real, STORAGE, count=3)
    planning.preview(STORAGE, Quiet())
    settings(real, STORAGE, count=4)
    with pytest.raises(StackFailed, match=r"violates plan.*count.*; settings, programs or what is recorded"):
        held.up(STORAGE, Quiet())
    settings(real, STORAGE, count=3)
    assert held.up(STORAGE, Quiet()) == {"same": 2, "update": 1}


RULES = """
from pulumi_policy import EnforcementLevel, PolicyPack, ResourceValidationPolicy


def never_two(resource, report):
    if resource.props.get("count") == 2:
        report("count is 2: write another")


rule = ResourceValidationPolicy(name="never-two", description="Nothing is two.", validate=never_two)
PolicyPack(name="fake", enforcement_level=EnforcementLevel.MANDATORY, policies=[rule])
"""


@pytest.mark.live
@pytest.mark.pulumi
@pytest.mark.skipif(shutil.which("pulumi") is None, reason="no pulumi on PATH: policy packs are the real CLI's")
def test_the_real_cli_plans_nothing_that_breaks_a_rule(real: Path) -> None:
    pack = real / PACK
    pack.mkdir(parents=True)
    (pack / "PulumiPolicy.yaml").write_text("runtime: python\nversion: 0.1.0\n")
    (pack / "__main__.py").write_text(RULES)
    engine = engines.choose("prod", "cli", Workspace("prod", real, real / "one"), plans=real / "plans")
    settings(real, STORAGE, count=2)
    broken = "rule never-two is broken by thing: Nothing is two. count is 2: write another"
    with pytest.raises(StackFailed, match=broken):
        engine.preview(STORAGE, Quiet())
    assert list((real / "plans").iterdir()) == []
    settings(real, STORAGE, count=3)
    assert engine.preview(STORAGE, Quiet())["changeSummary"] == {"create": 3}
    assert [path.name for path in (real / "plans").glob("*.json")] == [f"{STORAGE}.json"]
