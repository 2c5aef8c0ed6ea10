"""A lost backend is filled again, a dead cluster forgotten and rebuilt, a protected thing kept: by the commands."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from engine_fake import LIMIT_SECONDS, Cloud
from engine_fake import Workspace as Programs

from signals import export
from stacks import engine as engines
from stacks.contract import HEALTH_TOKEN, SiteEndpoint, TrafficOutputs
from stacks.workspace import Workspace
from tests.declared import filled
from tests.signals import signal_stage

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

PROGRAM = """
stack = pulumi.get_stack()
layer = stack.partition(".")[0].partition("-")[0]
site = stack.partition(".")[0].partition("-")[2]

class Cluster(pulumi.ProviderResource):
    def __init__(self, name, opts=None, **settings):
        super().__init__("kubernetes", name, settings, opts)

class Manifest(pulumi.CustomResource):
    def __init__(self, called, opts=None, **inputs):
        super().__init__("kubernetes:core/v1:ConfigMap", called, {**inputs, "arn": None}, opts)

class Eks(pulumi.CustomResource):
    arn: Output[str]
    def __init__(self, called, opts=None, **inputs):
        super().__init__("aws:eks/cluster:Cluster", called, {**inputs, "arn": None}, opts)

class Aws(pulumi.ProviderResource):
    def __init__(self, name, opts=None, **settings):
        super().__init__("aws", name, settings, opts)

def declared(kind, role, *needs, on):
    lasting = ResourceOptions(provider=on, protect=config.get_bool("protect"), depends_on=list(needs))
    return kind(role, name=f"{role}-{stack}", key=config.get_secret("key"), opts=lasting)

kubeconfig = '{"server": "https://127.0.0.1:1"}'
if layer == "traffic":
    pool = pulumi.StackReference("organization/tandem/pool-private.lab")
    pulumi.export("of_the_pool", pool.require_output("kubeconfig"))
    for key, value in (config.get_object("outputs") or {}).items():
        pulumi.export(key, value)
elif layer in ("storage", "pool"):
    cloud = Aws("aws", endpoints='{"s3": "http://127.0.0.1:1"}')
    vpc = declared(Thing, "vpc", on=Echo("east", region="east"))
    if layer == "pool":
        cluster = declared(Eks, "cluster", vpc, on=cloud)
        alarm = ResourceOptions(provider=Echo("west", region="west"), depends_on=[cluster])
        Thing("alarm", name=f"alarm-{stack}", fail=config.get("fail"), opts=alarm)
        management = Cluster("management", kubeconfig=kubeconfig)
        declared(Manifest, "machines", on=management)
        pulumi.export("kubeconfig", kubeconfig)
else:
    pool = pulumi.StackReference(f"organization/tandem/pool-{site}.lab")
    provider = Cluster("cluster", kubeconfig=pool.require_output("kubeconfig"))
    group = Group("group")
    lasting = ResourceOptions(provider=provider, parent=group)
    Manifest("pods", name=f"pods-{stack}", opts=lasting)
"""
LAYERS = ("storage", "pool", "platform", "serving")
STACKS = [*(f"{layer}-private" for layer in LAYERS), "storage-public", "traffic"]
CLUSTER = tuple(part for layer in LAYERS[1:] for part in ("--stack", f"{layer}-private"))
FORGET = ("forget", "--site", "private", "--layer", "platform", "--layer", "serving", "--layer", "pool")


CLI = [
    pytest.mark.pulumi,
    pytest.mark.skipif(shutil.which("pulumi") is None, reason="no pulumi on PATH: the ways back need the real CLI"),
]


def tracked(root: Path, stack: str, **values: object) -> None:
    folder = root / "stacks" / "config"
    folder.mkdir(parents=True, exist_ok=True)
    content = {"config": {f"tandem:{key}": value for key, value in values.items()}}
    (folder / f"Pulumi.{stack}.lab.yaml").write_text(yaml.safe_dump(content))


@pytest.fixture
def cloud(echo: tuple[Cloud, int]) -> Cloud:
    return echo[0]


@pytest.fixture
def workspace(echo: tuple[Cloud, int], tmp_path: Path) -> Workspace:
    programs = Programs(tmp_path, echo[1])
    programs.project("  protect: {type: boolean, default: false}\n  key: {secret: true, default: ''}\n")
    programs.program(PROGRAM)
    for stack in STACKS:
        tracked(tmp_path, stack, **({} if stack == "traffic" else {"key": "hush"}))
    home = tmp_path / "home"
    (home / "lab").mkdir(parents=True)
    attached = ",".join(f"{package}:{echo[1]}" for package in ("echo", "aws", "kubernetes"))
    environment = {"engine_environment": {"PULUMI_DEBUG_PROVIDERS": attached}}
    (home / "lab" / "lab.json").write_text(json.dumps(environment))
    return Workspace("lab", tmp_path, home)


def tandem(workspace: Workspace, *arguments: str, engine: str = "embedded") -> subprocess.CompletedProcess[str]:
    """`tandem ...` on a repository of the test's own, without gates."""
    code = (
        "import sys; from pathlib import Path; import stacks.cli as cli, stacks.recover_cli as ways;"
        "here = cli.Workspace; root = Path(sys.argv.pop(1));"
        "cli.Workspace = type('W', (here,), {'of': classmethod(lambda c, env: here.of(env, root))});"
        "cli.app.registered_commands += ways.ways.registered_commands; cli.app.add_typer(ways.app, name='state');"
        "cli.app(obj=lambda *_: None)"
    )
    environment = {
        **os.environ,
        "TANDEM_HOME": str(workspace.home),
        "PYTHONPATH": str(Path(engines.__file__).parents[1]),
    }
    return subprocess.run(
        [sys.executable, "-c", code, str(workspace.root), *arguments, "--engine", engine], cwd=workspace.root,
        env=environment, text=True, capture_output=True, timeout=2 * LIMIT_SECONDS, check=False,
    )  # fmt: skip


def worked(workspace: Workspace, *arguments: str, engine: str = "embedded") -> str:
    done = tandem(workspace, *arguments, engine=engine)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def refused(workspace: Workspace, *arguments: str, engine: str = "embedded") -> str:
    done = tandem(workspace, *arguments, engine=engine)
    assert done.returncode != 0, done.stderr
    return " ".join(done.stderr.split())


def counts(workspace: Workspace, *arguments: str, engine: str = "embedded") -> dict[str, dict[str, int]]:
    done = tandem(workspace, "up", "--json", *arguments, engine=engine)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def recorded(workspace: Workspace) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in workspace.states.glob("*.json")}


def test_a_lost_backend_is_filled_from_the_exports_and_nothing_is_made_twice(
    workspace: Workspace, cloud: Cloud
) -> None:
    assert "not exported" not in worked(workspace, "up")
    folder = export.local(workspace.home, "lab")
    assert {path.stem for path in folder.glob("*.json")} == {f"{stack}.lab" for stack in STACKS}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.glob("*.json")} == {0o600}
    made = list(cloud.created)
    shutil.rmtree(workspace.states)
    for verb in ("up", "destroy"):
        said = refused(workspace, verb)
        assert "the state backend records nothing of storage-private.lab (1 resources at" in said
        assert "pool-private.lab (4 resources at" in said
        assert "tandem state import --env lab" in said
    said = worked(workspace, "state", "import")
    assert "serving-private.lab: recorded as it was at" in said
    assert all(set(each) == {"same"} for each in counts(workspace).values())
    assert cloud.created == made
    assert not cloud.deleted
    said = refused(workspace, "state", "import", "--stack", "storage-private")
    assert "the backend records 1 resources of it" in said
    worked(workspace, "state", "import", "--stack", "storage-private", "--over")


def test_a_copy_elsewhere_serves_as_well_and_a_changed_one_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    worked(workspace, "up", "--layer", "storage")
    safe = tmp_path / "safe"
    worked(workspace, "state", "export", "--to", str(safe))
    shutil.rmtree(workspace.states)
    shutil.rmtree(export.local(workspace.home, "lab"))
    assert "holds no export of" in refused(workspace, "state", "import")
    path = safe / "storage-public.lab.json"
    document = path.read_bytes()
    path.write_bytes(document.replace(b"vpc-storage", b"vpc-changed"))
    assert "it was changed after it was signed" in refused(workspace, "state", "import", "--from", str(safe))
    assert not list(workspace.states.glob("*.json")), "nothing is recorded before all is verified"
    path.write_bytes((safe / "storage-private.lab.json").read_bytes())
    assert "is of stack storage-private.lab" in refused(workspace, "state", "import", "--from", str(safe))
    path.write_bytes(document)
    worked(workspace, "state", "import", "--from", str(safe))
    assert all(set(each) == {"same"} for each in counts(workspace, "--layer", "storage").values())


def test_what_was_destroyed_is_exported_as_gone_and_may_come_up_again(workspace: Workspace) -> None:
    worked(workspace, "up", "--layer", "storage")
    worked(workspace, "destroy", "--layer", "storage")
    shutil.rmtree(workspace.states)
    assert counts(workspace, "--layer", "storage")["storage-private.lab"]["create"] == 4


def test_a_failed_up_is_exported_too(workspace: Workspace, cloud: Cloud) -> None:
    tracked(workspace.root, "pool-private", fail="create")
    assert "the cloud said no" in refused(workspace, "up", "--stack", "pool-private")
    known = export.read(export.local(workspace.home, "lab"), "lab", "pool-private.lab", workspace.home)
    assert known is not None
    assert known.state == (workspace.states / "pool-private.lab.json").read_text()
    assert "vpc-pool-private.lab" in known.state, "what it had made"
    tracked(workspace.root, "pool-private")
    assert "create" in counts(workspace, "--stack", "pool-private")["pool-private.lab"]
    assert len(cloud.created) == len(set(cloud.created))


def test_a_dead_cluster_is_forgotten_without_asking_anybody_and_rebuilt_beside_what_stays(
    workspace: Workspace, cloud: Cloud
) -> None:
    worked(workspace, "up")
    before = recorded(workspace)
    asked, things = len(cloud.calls), dict(cloud.things)
    said = worked(workspace, *FORGET, "--yes")
    assert len(cloud.calls) == asked, "nobody was asked"
    for gone in ("pool-private.lab: forgot aws:eks/cluster:Cluster::cluster",
                 "platform-private.lab: forgot kubernetes:core/v1:ConfigMap::pods",
                 "pool-private.lab: 1 forgotten, 3 kept",
                 "traffic.lab was not touched"):  # fmt: skip
        assert gone in said
    after = recorded(workspace)
    changed = {stack for stack in before if before[stack] != after[stack]}
    assert changed == {f"{layer}-private.lab" for layer in ("pool", "platform", "serving")}, "other sites are as before"
    assert set(counts(workspace, "--stack", "traffic")["traffic.lab"]) == {"same"}, "traffic deploys meanwhile"
    for role in ("cluster-pool", "pods-platform", "pods-serving"):
        del cloud.things[f"{role}-private.lab"]
    rebuilt = counts(workspace)
    assert rebuilt["pool-private.lab"]["create"] == 1
    assert rebuilt["platform-private.lab"]["create"] == 3, "provider, component, manifest"
    others = {stack: each for stack, each in rebuilt.items() if "create" not in each}
    assert set(others) == {f"{stack}.lab" for stack in STACKS} - changed
    assert all(set(each) == {"same"} for each in others.values())
    assert cloud.things == things
    assert not cloud.deleted
    assert all(set(each) == {"same"} for each in counts(workspace).values())


def test_forgetting_is_taken_back_by_importing_what_was(workspace: Workspace) -> None:
    worked(workspace, "up", *CLUSTER)
    worked(workspace, *FORGET, "--management-too", "--yes")
    left = json.loads((workspace.states / "pool-private.lab.json").read_text())["deployment"]["resources"]
    assert not any(each["urn"].endswith("::machines") for each in left)
    folder = str(export.local(workspace.home, "lab") / "before-forget")
    worked(workspace, "state", "import", "--over", "--from", folder, *CLUSTER)
    assert all(set(each) == {"same"} for each in counts(workspace, *CLUSTER).values())


class Health(BaseHTTPRequestHandler):
    """A gateway that says what its class says."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(HEALTH_TOKEN.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_site_that_is_well_or_unknown_is_not_forgotten(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    worked(workspace, "up", "--stack", "pool-private", "--stack", "traffic")
    before = recorded(workspace)
    assert "traffic.lab records no site private; nobody can say" in refused(workspace, *FORGET)
    server = HTTPServer(("127.85.0.7", 0), Health)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        endpoint = filled(SiteEndpoint, name="private", address="127.85.0.7", port=server.server_port)
        outputs = signal_stage.traffic(sites={"private": endpoint})
        assert isinstance(outputs, TrafficOutputs)
        tracked(workspace.root, "traffic", outputs=asdict(outputs))
        program = workspace.root / "stacks" / "__main__.py"
        program.write_text(program.read_text().replace('    pulumi.export("of_the_pool"', '    ("of_the_pool"'))
        worked(workspace, "up", "--stack", "traffic")
        before = recorded(workspace)
        assert "says that private is well" in refused(workspace, *FORGET)
        assert recorded(workspace) == before
        monkeypatch.setattr(Health, "status", 503)
        worked(workspace, *FORGET)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(30)
    assert recorded(workspace) != before


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        (("storage",), "only pool, platform, serving hold something in a cluster"),
        (("pool",), "add --layer platform --layer serving"),
        (("platform",), "add --layer serving"),
    ],
)
def test_a_layer_that_cannot_be_forgotten_alone_is_refused(
    workspace: Workspace, layers: tuple[str, ...], reason: str
) -> None:
    options = [part for layer in layers for part in ("--layer", layer)]
    said = refused(workspace, "forget", "--site", "private", *options, "--yes")
    assert reason in " ".join(said.replace("│", " ").split())


@pytest.mark.parametrize("engine", ["embedded", pytest.param("cli", marks=CLI)])
def test_what_is_recorded_of_a_site_is_forgotten_and_destroyed_when_its_settings_are_gone(
    workspace: Workspace, cloud: Cloud, engine: str
) -> None:
    stacks = ("--stack", "storage-private", *CLUSTER)
    worked(workspace, "up", *stacks, engine=engine)
    for layer in LAYERS:
        (workspace.root / "stacks" / "config" / f"Pulumi.{layer}-private.lab.yaml").unlink()
    shutil.rmtree(workspace.overrides)
    assert "has no settings in" in refused(workspace, "destroy", "--stack", "pool-nowhere", engine=engine)
    said = refused(workspace, "up", "--stack", "pool-private", engine=engine)
    assert "has no settings in" in said, "an up goes by settings"
    assert "pool-private.lab: 1 forgotten, 3 kept" in worked(workspace, *FORGET, "--yes", engine=engine)
    worked(workspace, "destroy", *stacks, engine=engine)
    assert {name for name in cloud.things if name.endswith("-private.lab")} == {
        "cluster-pool-private.lab", "pods-platform-private.lab", "pods-serving-private.lab",
    }, "what lived in the cluster was forgotten; all else is gone"  # fmt: skip


def test_destroy_names_every_protected_thing_and_destroys_nothing(workspace: Workspace, cloud: Cloud) -> None:
    stacks = ("--stack", "storage-private", *CLUSTER)
    for stack in ("storage-private", "pool-private"):
        tracked(workspace.root, stack, protect=True)
    worked(workspace, "up", *stacks)
    before = recorded(workspace)
    said = refused(workspace, "destroy", *stacks)
    for named in ("storage-private.lab: echo:index:Thing::vpc", "aws:eks/cluster:Cluster::cluster",
                  "kubernetes:core/v1:ConfigMap::machines", "`protect: false`"):  # fmt: skip
        assert named in said
    assert recorded(workspace) == before
    assert not cloud.deleted, "not even what is not protected"
    for stack in ("storage-private", "pool-private"):
        tracked(workspace.root, stack, protect=False)
    worked(workspace, "up", *stacks)
    worked(workspace, "destroy", *stacks)
    assert not cloud.things


@pytest.mark.pulumi
@pytest.mark.skipif(shutil.which("pulumi") is None, reason="no pulumi on PATH: the ways back need the real CLI")
def test_the_cli_goes_the_same_ways(workspace: Workspace, cloud: Cloud) -> None:
    worked(workspace, "up", engine="cli")
    made = list(cloud.created)
    exports = export.local(workspace.home, "lab")
    assert all("hush" not in path.read_text() for path in exports.glob("*.json")), "its exports are encrypted"
    shutil.rmtree(workspace.home / "lab" / "pulumi")
    assert "the state backend records nothing of" in refused(workspace, "up", engine="cli")
    worked(workspace, "state", "import", engine="cli")
    assert all(set(each) == {"same"} for each in counts(workspace, engine="cli").values())
    worked(workspace, *FORGET, "--yes", engine="cli")
    rebuilt = counts(workspace, engine="cli")
    assert rebuilt["pool-private.lab"]["create"] == 1
    assert all("delete" not in each and "replace" not in each for each in rebuilt.values())
    assert cloud.created == made, "what is made again was there already, in this test"
    worked(workspace, "destroy", engine="cli")
    assert not cloud.things
