"""The embedded engine as users run it: a process, real programs, a provider behind the real protocol."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_fake import LIMIT_SECONDS, Cloud, Workspace, echo_server

pytestmark = pytest.mark.live

EAST = 'east = Echo("east", region="east")\nuse = ResourceOptions(provider=east)\n'


@pytest.fixture
def echo() -> Iterator[tuple[Cloud, int]]:
    with echo_server() as server:
        yield server


@pytest.fixture
def cloud(echo: tuple[Cloud, int]) -> Cloud:
    return echo[0]


@pytest.fixture
def workspace(echo: tuple[Cloud, int], tmp_path: Path) -> Workspace:
    return Workspace(tmp_path, echo[1])


def test_up_again_and_destroy_walk_the_graph_in_order(workspace: Workspace, cloud: Cloud) -> None:
    workspace.program(
        EAST
        + """
group = Group("group")
a = Thing("a", opts=ResourceOptions(provider=east, parent=group))
b = Thing("b", source=a.arn, opts=use)
c = Thing("c", opts=ResourceOptions(provider=east, depends_on=[b], deleted_with=a))
group.register_outputs({"arn": a.arn})
pulumi.export("arn", b.source)
pulumi.export("token", Output.secret({"deep": ["hush"]}))
pulumi.export("names", [pulumi.get_organization(), pulumi.get_project(), pulumi.get_stack()])
pulumi.log.info("a word from the program")
"""
    )
    digest = workspace.preview()
    assert digest["changeSummary"] == {"create": 6}
    assert not cloud.calls
    created = next(step for step in digest["steps"] if step["urn"].endswith("::b"))
    assert created["op"] == "create"
    assert created["newState"]["inputs"]["source"] == "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
    first = workspace.up()
    assert "created: echo:index:Thing a" in first
    assert "a word from the program" in first
    assert cloud.named("Create") == ["a", "b", "c"]
    resources = workspace.resources()
    assert resources["a"]["urn"] == "urn:pulumi:storage-private.lab::tandem::tandem:test:Group$echo:index:Thing::a"
    assert resources["b"]["propertyDependencies"] == {"source": [resources["a"]["urn"]]}
    assert resources["c"]["deletedWith"] == resources["a"]["urn"]
    assert resources["group"]["outputs"]["arn"] == resources["a"]["outputs"]["arn"]
    assert workspace.outputs() == {
        "arn": resources["a"]["outputs"]["arn"],
        "names": ["organization", "tandem", "storage-private.lab"],
        "token": "[secret]",
    }
    assert "6 unchanged" in workspace.up()
    assert cloud.named("Create") == ["a", "b", "c"]
    assert workspace.run("destroy").returncode == 0
    assert cloud.named("Delete") == ["b", "a"], "c is deleted with a: its provider is not asked"
    assert not workspace.deployment()["resources"]


def test_changes_are_updated_replaced_or_removed(workspace: Workspace, cloud: Cloud) -> None:
    body = EAST + "v = config.get_int('v') or 1\n"
    workspace.program(
        body
        + """
Thing("updated", size=v, opts=use)
Thing("ignored", size=v, opts=ResourceOptions(provider=east, ignore_changes=["size"]))
Thing("forced", size=v, opts=ResourceOptions(provider=east, replace_on_changes=["size"]))
Thing("kind", kind=str(v), opts=use)
first = Thing("first", kind=str(v), deleteFirst=True, opts=use)
Thing("dependent", kind=first.arn, opts=use)
if v == 1:
    Thing("leaves", opts=use)
    Thing("stays", opts=ResourceOptions(provider=east, retain_on_delete=True))
"""
    )
    workspace.up()
    before = workspace.resources()
    cloud.calls.clear()
    workspace.settings({"v": 2})
    digest = workspace.preview()
    assert digest["changeSummary"] == {"delete": 2, "replace": 4, "same": 3, "update": 1}
    replaced = {step["urn"].rpartition("::")[2]: step for step in digest["steps"] if step["op"] == "replace"}
    assert set(replaced) == {"forced", "kind", "first", "dependent"}
    assert replaced["kind"]["replaceReasons"] == ["kind"]
    assert replaced["kind"]["detailedDiff"] == {"kind": {"kind": "update-replace", "inputDiff": True}}
    assert replaced["forced"]["replaceReasons"] == ["size"]
    messages = workspace.up()
    assert "replaced: echo:index:Thing kind" in messages
    assert cloud.named("Update") == ["updated"]
    kept = [name for name in ("stays", "ignored") if name in cloud.named("Delete")]
    assert not kept
    order = [(method, name) for method, name, _ in cloud.calls if method in {"Create", "Delete"}]
    assert order.index(("Create", "kind")) < order.index(("Delete", "kind"))
    chain = [each for each in order if each[1] in {"first", "dependent"}]
    assert chain == [("Delete", "dependent"), ("Delete", "first"), ("Create", "first"), ("Create", "dependent")]
    assert ("Delete", "leaves") in order
    after = workspace.resources()
    assert after["kind"]["id"] != before["kind"]["id"]
    assert before["stays"]["id"] in cloud.things
    assert "10 unchanged" not in workspace.up()
    assert not [each for each in workspace.deployment()["resources"] if each.get("delete")]


def test_renamed_resources_are_found_by_their_aliases(workspace: Workspace, cloud: Cloud) -> None:
    workspace.program(
        EAST + 'g = Group("old")\nThing("old-a", opts=ResourceOptions(provider=east, parent=g))\nThing("b", opts=use)'
    )
    workspace.up()
    ids = {name: each["id"] for name, each in workspace.resources().items() if each["custom"]}
    workspace.program(
        EAST
        + """
g = Group("new", opts=ResourceOptions(aliases=[pulumi.Alias(name="old")]))
Thing("new-a", opts=ResourceOptions(provider=east, parent=g))
was = pulumi.Alias(name="b", parent=pulumi.ROOT_STACK_RESOURCE)
Thing("bee", opts=ResourceOptions(provider=east, parent=g, aliases=[was]))
"""
    )
    assert "5 unchanged" in workspace.up()
    assert sorted(cloud.named("Create")) == ["b", "old-a"]
    after = workspace.resources()
    assert after["new-a"]["id"] == ids["old-a"]
    assert after["bee"]["id"] == ids["b"]
    assert "5 unchanged" in workspace.up()


def test_protected_resources_stay_and_are_named(workspace: Workspace, cloud: Cloud) -> None:
    workspace.program(EAST + 'Thing("keep", kind="1", opts=ResourceOptions(provider=east, protect=True))')
    workspace.up()
    for command, body in [
        ("destroy", None),
        ("up", EAST),
        ("up", EAST + 'Thing("keep", kind="2", opts=ResourceOptions(provider=east, protect=True))'),
    ]:
        if body:
            workspace.program(body)
        message = workspace.refused(command)
        assert "echo:index:Thing::keep: it is protected" in message
        assert "protect=False" in message
    assert not cloud.deleted
    workspace.program(EAST + 'Thing("keep", kind="1", opts=use)')
    workspace.up()
    assert workspace.run("destroy").returncode == 0


def test_secrets_stay_secret_in_state_and_preview(workspace: Workspace) -> None:
    workspace.project("  key: {secret: true, default: ''}\n")
    workspace.settings({"key": "hush-hush"})
    workspace.program(
        EAST
        + """
opts = ResourceOptions(provider=east, additional_secret_outputs=["owner"])
a = Thing("a", key=config.require_secret("key"), opts=opts)
pulumi.export("key", a.key)
pulumi.export("owner", a.owner)
"""
    )
    assert "hush-hush" not in json.dumps(workspace.preview())
    workspace.up()
    assert workspace.outputs() == {"key": "[secret]", "owner": "[secret]"}
    recorded = workspace.resources()["a"]
    for value in (recorded["inputs"]["key"], recorded["outputs"]["key"], recorded["outputs"]["owner"]):
        assert value["4dabf18193072939515e22adb298388d"] == "1b47061264138c4ac30d75fd1eb44270"
    assert recorded["inputs"]["key"]["plaintext"] == '"hush-hush"'
    shown = workspace.run("outputs", "--show-secrets")
    assert json.loads(shown.stdout)["key"] == "hush-hush"


def test_a_stack_reads_the_outputs_of_another_one(workspace: Workspace) -> None:
    reading = """
ref = pulumi.StackReference("organization/tandem/storage-private.lab")
pulumi.export("got", ref.require_output("plain"))
pulumi.export("hidden", ref.require_output("hidden"))
"""
    workspace.program(reading)
    message = workspace.refused(stack="pool-private.lab")
    assert "stack 'storage-private.lab' is not up" in message
    assert "tandem up --env lab --stack storage-private" in message
    workspace.program('pulumi.export("plain", {"a": [1]})\npulumi.export("hidden", Output.secret("s"))')
    workspace.up()
    workspace.program(reading)
    workspace.up(stack="pool-private.lab")
    assert workspace.outputs(stack="pool-private.lab") == {"got": {"a": [1]}, "hidden": "[secret]"}


def test_each_provider_instance_has_a_connection_of_its_own(workspace: Workspace, cloud: Cloud) -> None:
    workspace.program(
        EAST
        + """
west = Echo("west", region="west")
a = Thing("a", opts=use)
b = Thing("b", opts=ResourceOptions(provider=west))
told = pulumi.runtime.invoke_output("echo:index:shout", {"text": b.owner}, pulumi.InvokeOutputOptions(provider=west))
pulumi.export("owners", [a.owner, b.owner, told["owner"], told["text"]])
"""
    )
    workspace.up()
    assert workspace.outputs()["owners"] == ["east", "west", "west", "WEST"]
    assert sorted(cloud.calls) == [("Create", "a", "east"), ("Create", "b", "west")]
    workspace.program(workspace_program_with(region="north"))
    assert "replaced: echo:index:Thing a" in workspace.up()


def workspace_program_with(*, region: str) -> str:
    return f'east = Echo("east", region="{region}")\nThing("a", opts=ResourceOptions(provider=east))'


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('Thing("a", opts=use)\nThing("a", opts=use)', "::a: two resources of the program have this URN"),
        ('Thing("a", fail="check", opts=use)', "::a: fail: is 'check'; it must not be"),
        ('Thing("a")', "::a: it has no explicit provider"),
        ('Thing("a", opts=ResourceOptions(provider=east, import_="x"))', "::a: the embedded engine does not do import"),
        ("pulumi.runtime.register_resource_transform(lambda a: None)", "does not do transforms"),
        (
            'h = pulumi.ResourceHookBinding(before_create=[print])\nThing("a", opts=ResourceOptions(hooks=h))',
            "resource hooks",
        ),
        (
            'pulumi.ComponentResource("a:b:C", "remote", {}, use, remote=True)',
            "::remote: the embedded engine does not do remote",
        ),
        (
            'pulumi.CustomResource("echo:index:Thing", "x", {}, ResourceOptions(provider=east, id="i"))',
            "does not do reading resources",
        ),
        (
            'pulumi.runtime.invoke_output("echo:index:nope", {}, pulumi.InvokeOutputOptions(provider=east))',
            "unknown function echo:index:nope",
        ),
        ('Echo("far", url="https://example.com")', "::far: url is 'https://example.com'"),
        ('raise ValueError("weight is 300; it must be 0 to 255")', "ValueError: weight is 300"),
        ("import sys\nsys.exit(3)", "SystemExit: 3"),
        ("import os\nos.kill(os.getpid(), 9)", "was killed by signal 9"),
    ],
    ids=[
        "duplicate",
        "check",
        "default-provider",
        "import",
        "transform",
        "hook",
        "remote",
        "get",
        "invoke",
        "far",
        "raises",
        "exits",
        "dies",
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    workspace: Workspace, cloud: Cloud, body: str, reason: str
) -> None:
    workspace.program(EAST + body)
    assert reason in workspace.refused()
    assert not cloud.calls
    assert not (workspace.states / f"{workspace.stack}.json").exists()


def test_a_computed_output_left_out_fails_by_name_before_it_is_used(workspace: Workspace, cloud: Cloud) -> None:
    workspace.program(EAST + 'a = Thing("a", omit=["arn"], opts=use)\nThing("b", source=a.arn, opts=use)')
    message = workspace.refused()
    assert "::b: input 'source' has no value: it comes from an output of urn:pulumi" in message
    assert "::a that the provider did not set" in message
    assert cloud.named("Create") == ["a"]
    workspace.program(EAST + 'a = Thing("a", omit=["arn"], opts=use)\npulumi.export("arn", a.arn)')
    message = workspace.refused()
    assert "output 'arn' has no value" in message


def test_a_failed_create_keeps_what_was_finished(workspace: Workspace, cloud: Cloud) -> None:
    workspace.program(EAST + 'a = Thing("a", opts=use)\nThing("b", fail="create", source=a.arn, opts=use)')
    message = workspace.refused()
    assert "echo:index:Thing::b: the cloud said no" in message
    assert set(workspace.resources()) == {"tandem-storage-private.lab", "east", "a"}
    assert "pending_operations" not in workspace.deployment()
    workspace.program(EAST + 'a = Thing("a", opts=use)\nThing("b", source=a.arn, opts=use)')
    assert "1 created" in workspace.up()


def test_a_resource_that_never_got_ready_is_recorded_and_tried_again(workspace: Workspace, cloud: Cloud) -> None:
    workspace.program(EAST + 'Thing("a", fail="init", opts=use)')
    assert "::a: it is there but not ready: never got ready" in workspace.refused()
    assert workspace.resources()["a"]["initErrors"] == ["never got ready"]
    workspace.program(EAST + 'Thing("a", opts=use)')
    assert "1 updated" in workspace.up()
    assert "initErrors" not in workspace.resources()["a"]


def test_a_failed_delete_names_the_resource_and_keeps_it(workspace: Workspace, cloud: Cloud) -> None:
    workspace.program(EAST + 'Thing("a", fail="delete", opts=use)')
    workspace.up()
    assert "::a: it is not empty" in workspace.refused("destroy")
    assert "a" in workspace.resources()


def test_a_deletion_that_failed_after_it_began_is_asked_about_by_the_next_run(
    workspace: Workspace, cloud: Cloud
) -> None:
    workspace.program(EAST + 'Thing("a", fail="deleteLate", opts=use)')
    workspace.up()
    assert "::a: it is not gone yet" in workspace.refused("destroy")
    assert not cloud.things
    assert "1 created" in workspace.up()
    assert len(cloud.things) == 1
    assert "pending_operations" not in workspace.deployment()


def test_a_provider_that_is_not_there_is_named_with_its_remedy(workspace: Workspace) -> None:
    workspace.port = 1
    workspace.program(EAST)
    message = workspace.refused()
    assert "no provider for package 'echo' answers" in message
    assert "tandem lab up" in message


def test_outputs_survive_a_program_that_fails_half_way(workspace: Workspace) -> None:
    workspace.program('pulumi.export("a", 1)')
    workspace.up()
    workspace.program('pulumi.export("a", 2)\nraise RuntimeError("no")')
    workspace.refused()
    assert workspace.outputs() == {"a": 1}


def test_a_program_that_hangs_is_ended_and_said_so(workspace: Workspace) -> None:
    workspace.program("import time\ntime.sleep(600)")
    done = workspace.run("up", "--idle-seconds", "1")
    assert done.returncode == 1
    assert "asked nothing for 1 s and was ended" in done.stderr


def test_two_runs_of_a_stack_exclude_each_other(workspace: Workspace, cloud: Cloud) -> None:
    workspace.program(EAST + 'Thing("a", slow=60, opts=use)')
    with started(workspace, "up") as first:
        assert cloud.started.wait(LIMIT_SECONDS)
        message = workspace.refused()
        cloud.enough.set()
        assert f'"pid": {first.pid}' in message
        assert "one run per stack at a time" in message
        _, errors = first.communicate(timeout=LIMIT_SECONDS)
    assert first.returncode == 0, errors


@contextlib.contextmanager
def started(workspace: Workspace, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """An engine that runs meanwhile, and not longer than the test."""
    with subprocess.Popen(
        workspace.command(*arguments), cwd=workspace.root, env=workspace.environment,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def test_ctrl_c_records_what_was_finished(workspace: Workspace, cloud: Cloud) -> None:
    workspace.program(EAST + 'Thing("a", slow=1.5, opts=use)')
    with started(workspace, "up") as process:
        assert cloud.started.wait(LIMIT_SECONDS)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 1
    assert "interrupted" in errors
    assert "a" in workspace.resources()
    assert "3 unchanged" in workspace.up()


def program_of(engine: int) -> list[int]:
    done = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(engine)], text=True, capture_output=True, timeout=10, check=False
    )
    return [int(pid) for pid in done.stdout.split()]


@pytest.mark.parametrize("moment", ["create", "update", "delete"])
def test_after_kill_9_the_next_up_converges(workspace: Workspace, cloud: Cloud, moment: str) -> None:
    slow = EAST + 'a = Thing("a", size=1, opts=use)\nThing("b", slow=1, source=a.arn, slowDelete=1, opts=use)\n'
    workspace.program(slow)
    if moment != "create":
        workspace.up()
        workspace.program(
            EAST + 'a = Thing("a", size=2, opts=use)\n' if moment == "delete" else slow.replace("slow=1,", "slow=1.5,")
        )
    cloud.started.clear()
    called = ({"create": "Create", "update": "Update", "delete": "Delete"}[moment], "b", "east")
    deadline = time.monotonic() + LIMIT_SECONDS
    with started(workspace, "up") as process:
        while called not in cloud.calls:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        children = program_of(process.pid)
        # Anywhere within the call: no moment of it may be special.
        time.sleep(random.uniform(0, 0.3))  # noqa: S311
        process.kill()
    assert children, "the program is a child of the engine"
    while any(Path(f"/proc/{pid}").exists() for pid in children):
        assert time.monotonic() < deadline, "the program outlived its engine"
        time.sleep(0.01)
    pending = workspace.deployment()["pending_operations"]
    assert [(each["type"], each["resource"]["urn"].rpartition("::")[2]) for each in pending] == [
        (moment.removesuffix("e") + "ing", "b")
    ]
    message = workspace.up()
    assert "was interrupted" in message
    deployment = workspace.deployment()
    assert "pending_operations" not in deployment
    things = {each["id"] for each in deployment["resources"] if each["type"] == "echo:index:Thing"}
    assert things == set(cloud.things), "the record and the cloud agree"
    assert len(cloud.created) == 2, "nothing was made twice"
    assert workspace.run("destroy").returncode == 0
    assert not cloud.things


def test_an_interrupted_create_that_nobody_declares_any_more_leaves_nothing(workspace: Workspace, cloud: Cloud) -> None:
    workspace.program(EAST + 'Thing("lost", slow=1, opts=use)')
    with started(workspace, "up"):
        assert cloud.started.wait(LIMIT_SECONDS)
    assert workspace.run("destroy").returncode == 0
    assert not cloud.things


@pytest.mark.pulumi
@pytest.mark.skipif(
    shutil.which("pulumi") is None, reason="no pulumi on PATH: the real CLI is compared where it is installed"
)
def test_the_real_cli_makes_the_same_of_the_same_program(workspace: Workspace, cloud: Cloud, tmp_path: Path) -> None:
    workspace.program(
        EAST
        + """
group = Group("group")
a = Thing("a", name="fixed-a", key=Output.secret("k"), opts=ResourceOptions(provider=east, parent=group))
b = Thing("b", name="fixed-b", source=a.arn, opts=use)
pulumi.export("arn", b.source)
pulumi.export("key", a.key)
pulumi.export("list", [b.arn, 2, 2.5, True, {"x": None}])
"""
    )
    backend = tmp_path / "backend"
    backend.mkdir()
    environment = workspace.environment | {
        "PULUMI_BACKEND_URL": f"file://{backend}",
        "PULUMI_HOME": str(tmp_path / "home"),
        "PULUMI_CONFIG_PASSPHRASE": "",
        "PULUMI_SKIP_UPDATE_CHECK": "true", "PATH": f"{Path(os.sys.executable).parent}:{os.environ['PATH']}",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }  # fmt: skip

    def pulumi(*arguments: str) -> str:
        done = subprocess.run(
            ["pulumi", *arguments, "--non-interactive"], cwd=workspace.root, env=environment,
            text=True, capture_output=True,
            timeout=LIMIT_SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    (workspace.root / "stacks" / "config").mkdir()
    pulumi("stack", "init", f"organization/tandem/{workspace.stack}")
    theirs_preview = json.loads(pulumi("preview", "--json"))
    ours_preview = workspace.preview()
    assert ours_preview["changeSummary"] == theirs_preview["changeSummary"]
    assert {(step["op"], step["urn"]) for step in ours_preview["steps"]} == {
        (step["op"], step["urn"]) for step in theirs_preview["steps"]
    }
    pulumi("up", "--yes", "--skip-preview")
    workspace.up()
    assert json.loads(pulumi("stack", "output", "--json")) == workspace.outputs()
    exported = json.loads(pulumi("stack", "export"))["deployment"]
    theirs = exported["resources"]
    assert {each["urn"]: each.get("propertyDependencies") for each in theirs if each["custom"]} == {
        each["urn"]: each.get("propertyDependencies") for each in workspace.deployment()["resources"] if each["custom"]
    }
    for each in theirs:
        ours = next(mine for mine in workspace.deployment()["resources"] if mine["urn"] == each["urn"])
        assert set(ours) <= set(each), "nothing is recorded that the real engine does not record"
    moved = tmp_path / "moved.json"
    deployment = workspace.deployment() | {"secrets_providers": exported["secrets_providers"]}
    moved.write_text(json.dumps({"version": 3, "deployment": deployment}))
    pulumi("stack", "import", "--file", str(moved))
    assert json.loads(pulumi("preview", "--json"))["changeSummary"].keys() <= {"same", "update"}
