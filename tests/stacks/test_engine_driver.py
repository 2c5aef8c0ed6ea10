# ruff: noqa: ARG002, ARG005 - fakes take what the protocol hands them

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml
from engine_fake import LIMIT_SECONDS, Cloud
from engine_fake import Workspace as Programs

from stacks import engine as engines
from stacks.contract import StackName
from stacks.workspace import Workspace, WorkspaceError

PROGRAM = """
stack = pulumi.get_stack()
if stack.startswith("traffic"):
    ref = pulumi.StackReference("organization/tandem/storage-private.lab")
    pulumi.export("arn", ref.require_output("arn"))
    pulumi.export("key", ref.require_output("key"))
else:
    east = Echo("east", region="east")
    slow = config.get_float("slow") or 0
    count = config.require_int("count")
    opts = ResourceOptions(provider=east)
    thing = Thing("thing", name="fixed-" + stack, slow=slow, key=config.get_secret("key"), count=count, opts=opts)
    pulumi.export("arn", thing.arn)
    pulumi.export("key", thing.key)
    if config.get_bool("fails"):
        raise ValueError("it is told to fail")
"""


class Heard:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str, str]] = []
        self.said: list[str] = []
        self.finished: list[str] = []

    def change(self, stack: StackName, op: str, kind: str, name: str) -> None:
        self.changes.append((str(stack), op, name))

    def message(self, stack: StackName, severity: str, text: str) -> None:
        self.said.append(text)

    def done(self, stack: StackName, counts: dict[str, int], seconds: float) -> None:
        self.finished.append(str(stack))


def tracked(root: Path, stack: str, **values: object) -> None:
    folder = root / "stacks" / "config"
    folder.mkdir(parents=True, exist_ok=True)
    content = {"config": {f"tandem:{key}": value for key, value in values.items()}}
    (folder / f"Pulumi.{stack}.yaml").write_text(yaml.safe_dump(content))


@pytest.fixture
def workspace(echo: tuple[Cloud, int], tmp_path: Path) -> Workspace:
    programs = Programs(tmp_path, echo[1])
    programs.project("  count: {type: integer, default: 1}\n  key: {secret: true, default: ''}\n")
    programs.program(PROGRAM)
    for stack in ("storage-private.lab", "storage-public.lab", "traffic.lab", "storage-private.prod"):
        tracked(tmp_path, stack, count=2, key="hush")
    home = tmp_path / "home"
    (home / "lab").mkdir(parents=True)
    environment = {"PULUMI_DEBUG_PROVIDERS": f"echo:{echo[1]}"}
    (home / "lab" / "lab.json").write_text(json.dumps({"engine_environment": environment}))
    return Workspace("lab", tmp_path, home)


def test_stacks_come_up_layer_by_layer_in_the_order_of_the_contract(tmp_path: Path) -> None:
    for stack in ("traffic.dev", "serving-b.dev", "storage-b.dev", "storage-a.dev", "pool-a.dev", "storage-a.prod"):
        tracked(tmp_path, stack)
    workspace = Workspace("dev", tmp_path, tmp_path / "home")
    layers = [[str(stack) for stack in layer] for layer in workspace.order()]
    assert layers == [["storage-a.dev", "storage-b.dev"], ["pool-a.dev"], ["serving-b.dev"], ["traffic.dev"]]
    assert [[str(stack) for stack in layer] for layer in workspace.order(layers=["storage"])] == layers[:1]
    only = workspace.order([StackName.parse("pool-a.dev")])
    assert [[str(stack) for stack in layer] for layer in only] == [["pool-a.dev"]]
    gone = StackName.parse("pool-c.dev")
    besides = workspace.order([gone, *only[0]], besides=[gone])
    assert [[str(stack) for stack in layer] for layer in besides] == [["pool-a.dev", "pool-c.dev"]]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"only": [StackName.parse("pool-x.dev")]}, "stack pool-x.dev has no settings in .*; there are storage-a.dev"),
        ({"layers": ["network"]}, "'network' is no layer; the layers are storage, pool"),
    ],
)
def test_a_stack_or_layer_that_is_not_there_is_refused(tmp_path: Path, arguments: dict, reason: str) -> None:
    tracked(tmp_path, "storage-a.dev")
    with pytest.raises(WorkspaceError, match=reason):
        Workspace("dev", tmp_path, tmp_path).order(**arguments)


def test_an_environment_without_settings_is_refused_with_where_they_belong(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="environment 'staging' has no stack"):
        Workspace("staging", tmp_path, tmp_path).order()


def test_overrides_win_key_by_key_and_the_tracked_file_is_left_alone(workspace: Workspace) -> None:
    stack = StackName.parse("storage-private.lab")
    source = workspace.tracked / "Pulumi.storage-private.lab.yaml"
    before = source.read_text()
    workspace.overrides.mkdir(parents=True)
    override = workspace.overrides / "Pulumi.storage-private.lab.yaml"
    override.write_text("config:\n  tandem:count: 7\n")
    path = workspace.merge(stack)
    assert yaml.safe_load(path.read_text())["config"] == {"tandem:count": 7, "tandem:key": "hush"}
    assert source.read_text() == before
    path.write_text("config: {tandem:count: touched}")
    assert workspace.merge(stack).read_text() == "config: {tandem:count: touched}", "what is up to date is left alone"
    override.write_text("config:\n  tandem:count: 8\n")
    assert yaml.safe_load(workspace.merge(stack).read_text())["config"]["tandem:count"] == 8


def test_a_stray_salt_is_not_taken_for_the_key_to_plain_settings(workspace: Workspace) -> None:
    stack = StackName.parse("storage-private.lab")
    source = workspace.tracked / "Pulumi.storage-private.lab.yaml"
    source.write_text(source.read_text() + "encryptionsalt: v1:somebody-elses\n")
    assert "encryptionsalt" not in workspace.merge(stack).read_text()
    source.write_text("config: {tandem:key: {secure: abc}}\nencryptionsalt: v1:ours\n")
    assert "encryptionsalt: v1:ours" in workspace.merge(stack).read_text()


def test_prod_needs_the_cli_and_the_lab_takes_what_there_is(
    monkeypatch: pytest.MonkeyPatch, workspace: Workspace
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert engines.choose("lab", None, workspace).name == "embedded"
    with pytest.raises(engines.EngineError, match="environment 'prod' needs the Pulumi CLI"):
        engines.choose("prod")
    with pytest.raises(engines.EngineError, match="'lab' needs the Pulumi CLI"):
        engines.choose("lab", "cli", workspace)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/pulumi")
    assert engines.choose("lab", None, workspace).name == "cli"
    assert engines.choose("lab", "embedded", workspace).name == "embedded"
    with pytest.raises(engines.EngineError, match="the embedded engine is for 'lab' only"):
        engines.choose("prod", "embedded")
    with pytest.raises(engines.EngineError, match="neither cli nor embedded"):
        engines.choose("lab", "terraform")


def test_a_lab_that_is_not_up_is_said_so(workspace: Workspace) -> None:
    (workspace.home / "lab" / "lab.json").unlink()
    with pytest.raises(WorkspaceError, match=r"the lab is not up .* start it: tandem lab up"):
        engines.up(workspace, engines.Embedded(workspace), Heard())


def test_stacks_of_one_layer_run_side_by_side_and_a_failure_ends_the_walk() -> None:
    stacks = [StackName.parse(f"storage-{site}.dev") for site in "ab"]
    meeting = threading.Barrier(2, timeout=30)
    begun = []

    def work(stack: StackName) -> None:
        begun.append(stack)
        meeting.wait()
        raise engines.StackFailed(stack, "no")

    with pytest.raises(engines.StackFailed, match=r"storage-a\.dev: no") as failed:
        engines.in_layers(engines.Embedded(Workspace.of("dev")), [stacks, [StackName.parse("traffic.dev")]], work)
    assert failed.value.__notes__ == ["storage-b.dev: no"]
    assert sorted(begun, key=str) == stacks


def walk(workspace: Workspace, engine: engines.Engine, cloud: Cloud) -> dict[str, object]:
    """Everything both engines have to do alike."""
    heard = Heard()
    assert engines.outputs(workspace, engine) == {}
    previewed = engine.preview(StackName.parse("storage-private.lab"), Heard())
    counts = engines.up(workspace, engine, heard)
    assert heard.finished[-1] == "traffic.lab"
    assert ("storage-public.lab", "create", "thing") in heard.changes
    found = engines.outputs(workspace, engine)
    again = engines.up(workspace, engine, Heard())
    things = set(cloud.things)
    engines.destroy(workspace, engine, Heard())
    assert not cloud.things
    assert cloud.deleted
    assert engines.outputs(workspace, engine) == {}
    masked = previewed["config"]["tandem:key"]
    return {
        "counts": counts,
        "outputs": found,
        "again": again,
        "things": things,
        "preview": previewed["changeSummary"],
        "key": masked,
    }


EXPECTED = {
    "counts": {"storage-private.lab": {"create": 3}, "storage-public.lab": {"create": 3}, "traffic.lab": {"create": 1}},
    "outputs": {
        "storage-private.lab": {"arn": "arn:fixed-storage-private.lab", "key": "[secret]"},
        "storage-public.lab": {"arn": "arn:fixed-storage-public.lab", "key": "[secret]"},
        "traffic.lab": {"arn": "arn:fixed-storage-private.lab", "key": "[secret]"},
    },
    "again": {"storage-private.lab": {"same": 3}, "storage-public.lab": {"same": 3}, "traffic.lab": {"same": 1}},
    "things": {"fixed-storage-private.lab", "fixed-storage-public.lab"},
    "preview": {"create": 3},
    "key": "[secret]",
}


@pytest.mark.live
def test_the_embedded_engine_walks_an_environment(workspace: Workspace, echo: tuple[Cloud, int]) -> None:
    assert walk(workspace, engines.choose("lab", "embedded", workspace), echo[0]) == EXPECTED


@pytest.mark.pulumi
@pytest.mark.skipif(shutil.which("pulumi") is None, reason="no pulumi on PATH: the walk needs the real CLI")
def test_the_cli_walks_an_environment_alike(workspace: Workspace, echo: tuple[Cloud, int]) -> None:
    before = {path: path.read_text() for path in workspace.tracked.iterdir()}
    assert walk(workspace, engines.choose("lab", "cli", workspace), echo[0]) == EXPECTED
    assert {path: path.read_text() for path in workspace.tracked.iterdir()} == before, (
        "tracked settings are not touched"
    )


def command(workspace: Workspace, *arguments: str) -> list[str]:
    """`tandem ...` on a repository of the test's own."""
    code = (
        "import sys; from pathlib import Path; import stacks.cli as cli; here = cli.Workspace;"
        "root = Path(sys.argv.pop(1));"
        "cli.Workspace = type('W', (here,), {'of': classmethod(lambda c, env: here.of(env, root))});"
        "cli.app()"
    )
    return [sys.executable, "-c", code, str(workspace.root), *arguments, "--engine", "embedded"]


def tandem(workspace: Workspace, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "TANDEM_HOME": str(workspace.home),
        "PYTHONPATH": str(Path(engines.__file__).parents[1]),
    }
    return subprocess.run(
        command(workspace, *arguments), cwd=workspace.root, env=environment, text=True, capture_output=True,
        timeout=LIMIT_SECONDS, check=False,
    )  # fmt: skip


@pytest.mark.live
def test_the_command_says_a_line_per_change_and_prints_json_alone(workspace: Workspace) -> None:
    done = tandem(workspace, "up", "--layer", "storage", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"storage-private.lab": {"create": 3}, "storage-public.lab": {"create": 3}}
    assert "storage-private  created echo:index:Thing thing" in done.stderr
    assert "\x1b[" not in done.stderr, "no colours outside a terminal"
    shown = tandem(workspace, "outputs", "--stack", "storage-private")
    assert "  arn = arn:fixed-storage-private.lab" in shown.stdout
    missing = tandem(workspace, "outputs", "--stack", "traffic", "--json")
    assert missing.returncode == 1
    assert "traffic.lab: it is not up" in missing.stderr
    previewed = tandem(workspace, "preview", "--engine", "embedded", "--format", "json")
    assert previewed.returncode == 0, previewed.stderr
    assert json.loads(previewed.stdout)["traffic.lab"]["changeSummary"] == {"create": 1}


@pytest.mark.live
def test_a_failing_program_fails_the_command_with_the_stack_and_the_reason(workspace: Workspace) -> None:
    tracked(workspace.root, "storage-public.lab", fails=True, count=2)
    done = tandem(workspace, "up")
    assert done.returncode == 1
    assert "ValueError: it is told to fail" in done.stderr
    assert "storage-public.lab" in done.stderr
    assert "traffic" not in done.stderr, "nothing of a later layer begins"


@pytest.mark.live
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_the_engines_too(workspace: Workspace, echo: tuple[Cloud, int], number: signal.Signals) -> None:
    tracked(workspace.root, "storage-private.lab", slow=1.5, count=2)
    environment = {
        **os.environ,
        "TANDEM_HOME": str(workspace.home),
        "PYTHONPATH": str(Path(engines.__file__).parents[1]),
    }
    with subprocess.Popen(
        command(workspace, "up", "--stack", "storage-private"), cwd=workspace.root, env=environment,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            assert echo[0].started.wait(LIMIT_SECONDS)
            process.send_signal(number)
            _, errors = process.communicate(timeout=LIMIT_SECONDS)
        finally:
            process.kill()
    state = json.loads((workspace.states / "storage-private.lab.json").read_text())["deployment"]
    if number == signal.SIGKILL:
        assert [each["type"] for each in state["pending_operations"]] == ["creating"]
    else:
        assert process.returncode == 1
        assert "stopped" in errors
        assert any(each["urn"].endswith("::thing") for each in state["resources"]), "what was in flight is recorded"
    done = tandem(workspace, "up", "--stack", "storage-private")
    assert done.returncode == 0, "the lock went with its holder: " + done.stderr
    assert echo[0].created == ["fixed-storage-private.lab"]
