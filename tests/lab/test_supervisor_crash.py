"""Kill -9 of anything at any moment: the next `lab up` starts cleanly and nothing of the old one listens."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lab import control
from lab.leftovers import segments, taken
from lab.members import Listener, Member
from lab.process import of_lab, started, wait_until
from lab.state import READY, LabState, Plan, state_file
from lab.topology import Topology

pytestmark = pytest.mark.live

FAKE = "tests.lab.test_supervisor_fake_member"
TOPOLOGY = Topology.in_blocks({"private": ("private", "127.77")}, shared_block="127.77", provider_port=7377)
SEGMENT = f"tandemcrash{os.getpid()}-a1b2c_region"


def member(name, number, *more, needs=()):
    host = f"127.77.31.{number}"
    arguments = ("--listen", host, *more)
    return Member(name=name, module=FAKE, arguments=arguments, needs=needs, listens=(Listener(host=host, port=7777),))


PLAN = Plan(
    TOPOLOGY,
    (
        member("api", 1),
        member("site", 2, "--mode", "pods", "--segment", SEGMENT, needs=("api",)),
        member("edge", 3, needs=("site",)),
    ),
)
UP = f"""
import sys
from pathlib import Path
from lab import control
from lab.state import Plan
control.up(Path(sys.argv[1]), Plan.from_json({PLAN.to_json()!r}))
"""


@pytest.fixture
def home(tmp_path):
    yield tmp_path
    control.down(tmp_path)
    assert of_lab(tmp_path) == {}


@pytest.fixture
def upper(home):
    """`lab up` in a process of its own, which can be killed."""
    begun = []

    def begin():
        process = subprocess.Popen([sys.executable, "-c", UP, str(home)], cwd=Path(__file__).parents[2])
        begun.append(process)
        return process

    yield begin
    for process in begun:
        process.kill()
        process.wait(30)


def supervisors(home):
    found = []
    for pid in of_lab(home):
        with contextlib.suppress(psutil.Error):
            if "lab.supervisor" in psutil.Process(pid).cmdline():
                found.append(pid)
    return found


def assert_comes_up_cleanly(home) -> None:
    old = of_lab(home)
    assert control.up(home, PLAN)
    assert LabState.read(home).troubles == []
    assert not old.keys() & of_lab(home).keys(), "processes of the crashed lab are still there"
    control.down(home)
    assert of_lab(home) == {}
    assert SEGMENT not in segments()
    assert [taken(listener) for one in PLAN.members for listener in one.listens] == ["", "", ""]


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8])
def test_the_supervisor_killed_while_it_starts(home, upper, delay) -> None:
    upper()
    assert wait_until(lambda: bool(supervisors(home)), 30)
    time.sleep(delay)  # the moment of the crash is what this test varies

    struck = set[int]()

    def killed() -> bool:  # one look may see the process that is about to fork the supervisor
        for pid in supervisors(home):
            struck.add(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # A process that is ending loses its environment, the mark with it, before it is gone.
        return not supervisors(home) and not any(map(started, struck))

    assert wait_until(killed, 30)
    assert_comes_up_cleanly(home)


@pytest.mark.parametrize("delay", [0.05, 0.3, 0.6])
def test_the_command_killed_while_it_waits(home, upper, delay) -> None:
    process = upper()
    time.sleep(delay)  # the moment of the crash is what this test varies
    process.kill()
    process.wait(30)
    control.up(home, PLAN)  # joins what was started, or starts anew
    assert LabState.read(home).troubles == []
    control.down(home)
    assert_comes_up_cleanly(home)


def test_the_supervisor_killed_when_all_runs_takes_its_members_along(home) -> None:
    control.up(home, PLAN)
    state = LabState.read(home)
    os.kill(state.pid, signal.SIGKILL)
    pids = [one.pid for one in state.members.values()]
    assert wait_until(lambda: not any(pid in of_lab(home) for pid in pids), 30), "members outlive their supervisor"
    assert of_lab(home), "the pod that is bound to nobody is what the next start has to find"
    assert_comes_up_cleanly(home)


def test_every_process_killed_at_once(home) -> None:
    control.up(home, PLAN)
    struck = of_lab(home)
    for pid in struck:
        os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not any(map(started, struck)), 30)
    assert of_lab(home) == {}
    assert SEGMENT in segments(), "killed processes leave their segment"
    assert_comes_up_cleanly(home)


def test_a_member_killed_leaves_no_pod_behind(home) -> None:
    control.up(home, PLAN)
    os.kill(LabState.read(home).members["site"].pid, signal.SIGKILL)
    control.down(home)
    assert of_lab(home) == {}
    assert SEGMENT not in segments()
    assert_comes_up_cleanly(home)


def test_a_supervisor_killed_while_it_takes_down(home) -> None:
    control.up(home, PLAN)
    state = LabState.read(home)
    os.kill(state.pid, signal.SIGTERM)
    assert wait_until(lambda: (LabState.read(home) or state).state != READY, 30)
    os.kill(state.pid, signal.SIGKILL)
    assert_comes_up_cleanly(home)


@pytest.mark.parametrize("damage", ["", "{", '{"supervisor": 5}', "[]"], ids=["empty", "cut", "wrong", "list"])
def test_a_damaged_lab_json_is_no_obstacle(home, damage) -> None:
    control.up(home, PLAN)
    os.kill(LabState.read(home).pid, signal.SIGKILL)
    state_file(home).write_text(damage)
    assert_comes_up_cleanly(home)


def test_ctrl_c_takes_down_what_was_started(home, upper) -> None:
    process = upper()
    assert wait_until(lambda: bool(supervisors(home)), 30)
    process.send_signal(signal.SIGINT)
    process.wait(60)
    assert of_lab(home) == {}
    assert_comes_up_cleanly(home)
