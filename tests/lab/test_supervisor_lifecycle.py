"""The lab goes up whole, is told about truthfully, and goes down whole; here with stand-in members."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lab import cli, control
from lab.leftovers import SHARED_MEMORY, segments, taken
from lab.members import Listener, Member, table
from lab.process import MARKER, of_lab, wait_until
from lab.state import LabError, LabState, Plan, log_file
from lab.topology import Topology

pytestmark = pytest.mark.live

FAKE = "tests.lab.test_supervisor_fake_member"
TOPOLOGY = Topology.in_blocks({"private": ("private", "127.77")}, shared_block="127.77", provider_port=7377)
ADDRESS = "127.77.30.{}"


def member(name, *, number=0, mode="good", needs=(), segment=""):
    host = ADDRESS.format(number) if number else ""
    arguments = ("--listen", host, "--mode", mode, "--segment", segment)
    listens = (Listener(host=host, port=7777),) if host else ()
    return Member(name=name, module=FAKE, arguments=arguments, needs=needs, listens=listens)


def plan(*members, deadline=30.0, grace=12.0):
    return Plan(TOPOLOGY, tuple(members), deadline, grace)


GOOD = (member("api", number=1), member("site", number=2, mode="pods", needs=("api",)), member("edge", needs=("site",)))


@pytest.fixture
def home(tmp_path):
    yield tmp_path
    control.down(tmp_path)
    assert of_lab(tmp_path) == {}


def command(home, monkeypatch, *words):
    monkeypatch.setenv("TANDEM_HOME", str(home))
    return CliRunner().invoke(cli.app, words)


def test_the_whole_table_comes_up_in_order_and_goes_down_again(home) -> None:
    said = []
    assert control.up(home, plan(*GOOD), said.append)
    assert said == ["api is ready", "site is ready", "edge is ready"]
    document = json.loads((home / "lab" / "lab.json").read_text())
    assert set(document["processes"]) == {"api", "site", "edge"}
    assert document["engine_environment"] == {"PULUMI_DEBUG_PROVIDERS": "aws:7377,kubernetes:7377"}
    assert Topology.load(home) == TOPOLOGY
    assert control.down(home)
    assert of_lab(home) == {}
    assert not (home / "lab" / "lab.json").exists()
    assert [taken(listener) for one in GOOD for listener in one.listens] == ["", ""]
    assert not control.down(home), "a second `down` has nothing to do"


def test_a_second_up_joins_the_lab_that_runs(home) -> None:
    control.up(home, plan(*GOOD))
    before = LabState.read(home).pid
    assert not control.up(home, plan(*GOOD))
    assert LabState.read(home).pid == before


def test_a_lab_with_other_settings_is_not_replaced_silently(home) -> None:
    control.up(home, plan(GOOD[0]))
    with pytest.raises(LabError, match=r"other settings runs.*tandem lab down"):
        control.up(home, plan(*GOOD))


def test_two_ups_at_once_make_one_lab(home) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.lab.test_supervisor_lifecycle import *\n"
        "print(control.up(Path(sys.argv[1]), plan(*GOOD)))"
    )
    starting = [
        subprocess.Popen([sys.executable, "-c", code, str(home)], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    assert sorted(one.communicate(timeout=60)[0].strip() for one in starting) == [b"False", b"True"]


def test_a_log_holds_both_outputs_of_its_process_and_of_this_start_only(home) -> None:
    log_file(home, "api").parent.mkdir(parents=True)
    log_file(home, "api").write_text("of an earlier start\n")
    control.up(home, plan(GOOD[0]))
    control.down(home)
    lines = log_file(home, "api").read_text().splitlines()
    assert sorted(lines) == ["ending", "ready", "some line", "starting None lab"]


def test_members_get_no_credentials_of_the_user(home, monkeypatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAREAL")
    control.up(home, plan(GOOD[0]))
    assert "starting None lab" in log_file(home, "api").read_text()


def test_a_member_that_dies_while_starting_is_named_with_its_last_words(home) -> None:
    with pytest.raises(LabError, match=r"(?s)site ended with status 1 before.*cannot open the thing"):
        control.up(home, plan(GOOD[0], member("site", mode="dies", needs=("api",))))
    assert of_lab(home) == {}
    assert not LabState.read(home).alive


def test_a_member_that_is_never_ready_is_given_up_at_its_deadline(home) -> None:
    with pytest.raises(LabError, match="slow was not ready after 1 s; see `tandem lab logs slow`"):
        control.up(home, plan(member("slow", mode="never ready"), deadline=1.0))
    assert of_lab(home) == {}


def test_a_taken_port_is_named_with_its_holder(home) -> None:
    named = rf"127.77.30.1:7777/tcp cannot be used.*held by pid {os.getpid()} \("
    with socket.create_server((ADDRESS.format(1), 7777)), pytest.raises(LabError, match=named):
        control.up(home, plan(*GOOD))
    assert control.up(home, plan(*GOOD))


def test_a_start_that_is_refused_leaves_shared_memory_of_others_alone(home) -> None:
    other = f"tandemtest{os.getpid()}-b2c3d_other"
    (SHARED_MEMORY / other).touch()
    try:
        with socket.create_server((ADDRESS.format(1), 7777)), pytest.raises(LabError, match="cannot be used"):
            control.up(home, plan(*GOOD))
        control.down(home)
        assert other in segments()
    finally:
        (SHARED_MEMORY / other).unlink(missing_ok=True)


def test_the_port_of_another_lab_tells_how_to_stop_that_one(home, tmp_path_factory) -> None:
    other = tmp_path_factory.mktemp("other")
    control.up(other, plan(*GOOD))
    try:
        with pytest.raises(LabError, match=f"TANDEM_HOME={other} tandem lab down"):
            control.up(home, plan(*GOOD))
    finally:
        control.down(other)


def test_a_member_that_dies_later_is_an_error_shown_and_not_restarted(home, monkeypatch) -> None:
    control.up(home, plan(*GOOD))
    assert command(home, monkeypatch, "status").exit_code == 0
    state = LabState.read(home)
    os.kill(state.members["site"].pid, signal.SIGKILL)
    assert wait_until(lambda: LabState.read(home).members["site"].state == "ended", 30)
    shown = command(home, monkeypatch, "status", "--json")
    assert shown.exit_code == 1
    assert json.loads(shown.stdout)["troubles"][0].startswith("site ended with status -9")
    assert "site" not in json.loads((home / "lab" / "lab.json").read_text())["processes"]
    assert "site (pid" in log_file(home, "supervisor").read_text()
    with pytest.raises(LabError, match="site ended with status -9"):
        control.up(home, plan(*GOOD))


def test_a_member_that_ignores_sigterm_is_killed_after_its_grace_period(home) -> None:
    control.up(home, plan(member("stubborn", number=1, mode="stubborn"), grace=0.5))
    began = time.monotonic()
    control.down(home)
    assert 0.5 <= time.monotonic() - began < 10
    assert of_lab(home) == {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_supervisor_that_gets_a_signal_takes_all_down(home, number) -> None:
    control.up(home, plan(*GOOD))
    state = LabState.read(home)
    os.kill(state.pid, number)
    assert wait_until(lambda: not state.alive, 30)
    assert of_lab(home) == {}
    assert not (home / "lab" / "lab.json").exists()


def test_shared_memory_of_pods_goes_and_that_of_others_stays(home) -> None:
    own, other = f"tandemtest{os.getpid()}-a1b2c_region", f"tandemtest{os.getpid()}-z9y8x_other"
    (SHARED_MEMORY / other).touch()
    try:
        control.up(home, plan(member("site", segment=own)))
        assert own in segments()
        control.down(home)
        assert own not in segments()
        assert other in segments()
    finally:
        (SHARED_MEMORY / other).unlink()


def test_what_described_the_last_clouds_is_gone_and_reports_stay(home) -> None:
    for folder in ("state", "pulumi", "sites", "drills"):
        (home / "lab" / folder).mkdir(parents=True)
    control.up(home, plan(GOOD[0]))
    left = {entry.name for entry in (home / "lab").iterdir() if entry.is_dir()}
    assert left == {"drills", "logs", "tmp"}
    control.down(home)
    assert not (home / "lab" / "tmp").exists()


def test_the_command_prints_environment_and_logs(home, monkeypatch) -> None:
    assert command(home, monkeypatch, "env").exit_code == 1
    control.up(home, plan(GOOD[0]))
    assert command(home, monkeypatch, "env").stdout == "export PULUMI_DEBUG_PROVIDERS=aws:7377,kubernetes:7377\n"
    assert "some line" in command(home, monkeypatch, "logs", "api").stdout
    assert command(home, monkeypatch, "logs", "api", "-n", "1").stdout.count("\n") == 1
    missing = command(home, monkeypatch, "logs", "nothing")
    assert (missing.exit_code, "there are logs of api, supervisor" in missing.stderr) == (1, True)
    assert command(home, monkeypatch, "down").exit_code == 0


def test_the_real_table_names_every_process_and_only_free_needs() -> None:
    members = table(Topology.default(), checkers=8, clock_factor=1.0)
    names = {one.name for one in members}
    assert names == {
        "aws",
        "route53",
        "providers",
        *(f"{part}-{site}" for part in ("store", "site", "edge") for site in ("private", "public")),
    }
    assert all(set(one.needs) < names for one in members)
    assert all(Member.from_json(json.loads(json.dumps(one.to_json()))) == one for one in members)
    assert MARKER == "TANDEM_LAB_HOME"
