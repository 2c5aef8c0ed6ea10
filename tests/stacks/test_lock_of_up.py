"""`tandem up` holds the environment while it works, and leaves a signed snapshot when it succeeded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from engine_fake import LIMIT_SECONDS, Cloud
from engine_fake import Workspace as Programs

from signals import lock, snapshot
from signals.holder import Holder
from stacks import engine as engines
from stacks.workspace import Workspace
from tests.signals import signal_stage

pytestmark = pytest.mark.live

PROGRAM = """
stack = pulumi.get_stack()
if stack.startswith("storage"):
    keys = ("site", "region", "endpoint", "model_bucket", "model_key_arn", "signal_bucket", "signal_url")
    for key in (*keys, "credentials_profile"):
        pulumi.export(key, config.get(key) or "")
    pulumi.export("replication_rules", [])
else:
    east = Echo("east", region="east")
    slow = config.get_float("slow") or 0
    thing = Thing("thing", name="fixed-" + stack, slow=slow, key="k", count=1, opts=ResourceOptions(provider=east))
    pulumi.export("arn", thing.arn)
"""


def tracked(root: Path, stack: str, **values: object) -> None:
    folder = root / "stacks" / "config"
    folder.mkdir(parents=True, exist_ok=True)
    content = {"config": {f"tandem:{key}": value for key, value in values.items()}}
    (folder / f"Pulumi.{stack}.yaml").write_text(yaml.safe_dump(content))


@pytest.fixture
def workspace(stores: signal_stage.Stores, echo: tuple[Cloud, int], tmp_path: Path) -> Workspace:
    programs = Programs(tmp_path, echo[1])
    programs.program(PROGRAM)
    for site in ("private", "public"):
        tracked(tmp_path, f"storage-{site}.lab", **vars(stores.outputs()[site]))
    tracked(tmp_path, "traffic.lab", slow=0)
    home = tmp_path / "home"
    (home / "lab").mkdir(parents=True)
    environment = {"PULUMI_DEBUG_PROVIDERS": f"echo:{echo[1]}"}
    (home / "lab" / "lab.json").write_text(json.dumps({"engine_environment": environment}))
    return Workspace("lab", tmp_path, home)


def started(workspace: Workspace, *arguments: str, room: str = "cli") -> subprocess.Popen[str]:
    """`tandem ...` on a repository of the test's own."""
    code = (
        f"import sys; from pathlib import Path; import stacks.{room} as cli; here = cli.Workspace;"
        "root = Path(sys.argv.pop(1));"
        "cli.Workspace = type('W', (here,), {'of': classmethod(lambda c, env: here.of(env, root))});"
        "cli.app()"
    )
    source = Path(engines.__file__).parents[1]
    return subprocess.Popen(
        [sys.executable, "-c", code, str(workspace.root), *arguments], cwd=workspace.root,
        env={**os.environ, "TANDEM_HOME": str(workspace.home), "PYTHONPATH": str(source)},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def tandem(workspace: Workspace, *arguments: str, room: str = "cli") -> tuple[int, str, str]:
    with started(workspace, *arguments, room=room) as process:
        try:
            out, errors = process.communicate(timeout=LIMIT_SECONDS)
        finally:
            process.kill()
    return process.returncode, out, errors


def far_away(stores: signal_stage.Stores, *sites: str) -> None:
    """Somebody on another machine holds the environment."""
    holder = replace(Holder.me("lab", "drill switchover", 60.0), owner="eve@far 7", process="other/1/7:1")
    for site in sites:
        signal_stage.client(stores.endpoint).put_object(Bucket=f"signals-{site}", Key=lock.KEY, Body=holder.body())


EMBEDDED = ("--engine", "embedded")


def test_an_up_leaves_a_signed_snapshot_on_the_machine_and_in_every_store_and_the_lock_free(
    workspace: Workspace, stores: signal_stage.Stores
) -> None:
    code, _, errors = tandem(workspace, "up", *EMBEDDED)
    assert code == 0, errors
    taken = snapshot.read(snapshot.local(workspace.home, "lab"), "lab", workspace.home)
    assert taken.outputs["storage-public.lab"]["signal_bucket"] == "signals-public"
    assert taken.outputs["traffic.lab"] == {"arn": "arn:fixed-traffic.lab"}
    for store in stores.stores():
        stored = store.get(snapshot.KEY)
        assert stored is not None
        assert snapshot.verify(stored.body, "lab", workspace.home) == taken
        standing = store.get(lock.KEY)
        assert standing is not None, "it was taken as soon as the stores were up"
        assert Holder.parse(standing.body, 1.0).released


def test_an_up_and_a_destroy_are_refused_while_a_drill_works(workspace: Workspace, stores: signal_stage.Stores) -> None:
    assert tandem(workspace, "up", *EMBEDDED)[0] == 0
    far_away(stores, "public")
    for verb in ("up", "destroy"):
        code, out, errors = tandem(workspace, verb, *EMBEDDED)
        assert code == 1
        assert "lab is locked by eve@far 7 for 'drill switchover'" in errors
        assert "tandem lock break --env lab" in errors
        assert not out
    code, out, _ = tandem(workspace, "status", "--json", room="lock_cli")
    assert code == 1
    said = json.loads(out)["stores"]
    assert said["private"]["holder"] is None
    assert said["public"]["holder"]["owner"] == "eve@far 7"
    saved = str(snapshot.local(workspace.home, "lab"))
    code, _, errors = tandem(workspace, "break", "--yes", "--outputs", saved, room="lock_cli")
    assert code == 0, errors
    assert tandem(workspace, "up", *EMBEDDED)[0] == 0
    assert tandem(workspace, "status", room="lock_cli")[0] == 0
    assert tandem(workspace, "destroy", *EMBEDDED)[0] == 0


def test_a_store_that_is_away_stops_neither_lock_nor_snapshot_and_both_are_said(
    workspace: Workspace, stores: signal_stage.Stores
) -> None:
    tracked(workspace.root, "storage-private.lab", **vars(stores.outputs("private")["private"]))
    code, _, errors = tandem(workspace, "up", *EMBEDDED)
    assert code == 0, errors
    assert "the lock is not held in every store: private" in errors
    assert "the snapshot of outputs was not written to the store of private" in errors
    tracked(workspace.root, "storage-public.lab", **vars(stores.outputs("public")["public"]))
    assert tandem(workspace, "up", "--stack", "storage-public", *EMBEDDED)[0] == 0, "the lock was taken before it moved"
    code, _, errors = tandem(workspace, "up", *EMBEDDED)
    assert code == 1
    assert "no store answers" in errors
    assert tandem(workspace, "up", "--without-lock", *EMBEDDED)[0] == 0, "for when every store is lost"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_up_gives_the_lock_back_and_a_killed_one_is_not_waited_for(
    workspace: Workspace, stores: signal_stage.Stores, echo: tuple[Cloud, int], number: signal.Signals
) -> None:
    assert tandem(workspace, "up", "--layer", "storage", *EMBEDDED)[0] == 0
    tracked(workspace.root, "traffic.lab", slow=1.5)
    with started(workspace, "up", *EMBEDDED) as process:
        try:
            assert echo[0].started.wait(LIMIT_SECONDS)
            held = lock.status(stores.stores())
            assert {each.holder and each.holder.purpose for each in held} == {"up"}
            process.send_signal(number)
            _, errors = process.communicate(timeout=LIMIT_SECONDS)
        finally:
            process.kill()
    if number != signal.SIGKILL:
        assert process.returncode == 1
        assert "stopped" in errors
    assert [each.holder for each in lock.status(stores.stores())] == [None, None]
    code, _, errors = tandem(workspace, "up", *EMBEDDED)
    assert code == 0, errors


def test_an_up_whose_lock_is_broken_ends_and_says_so(
    workspace: Workspace, stores: signal_stage.Stores, echo: tuple[Cloud, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tandem(workspace, "up", "--layer", "storage", *EMBEDDED)[0] == 0
    tracked(workspace.root, "traffic.lab", slow=20)
    code = (
        "import sys; from pathlib import Path; import signals.lock as lock; lock.hold.__wrapped__.__kwdefaults__"
        "['lease_seconds'] = 1.0; import stacks.cli as cli; here = cli.Workspace; root = Path(sys.argv.pop(1));"
        "cli.Workspace = type('W', (here,), {'of': classmethod(lambda c, env: here.of(env, root))}); cli.app()"
    )
    source = Path(engines.__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", code, str(workspace.root), "up", *EMBEDDED], cwd=workspace.root,
        env={**os.environ, "TANDEM_HOME": str(workspace.home), "PYTHONPATH": str(source)},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            assert echo[0].started.wait(LIMIT_SECONDS)
            lock.break_open(stores.stores())
            _, errors = process.communicate(timeout=LIMIT_SECONDS)
        finally:
            process.kill()
    assert process.returncode == 1
    assert "the lock was taken" in errors
