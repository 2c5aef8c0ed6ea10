"""Processes of the lab die with their parents, and are not mistaken for others."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.process import MARKER, alive, of_lab, parent_binding_command, started, stop, stop_all, wait_until

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('x', flush=True); time.sleep(60)",
]
PARENT = """
import subprocess, sys, time
from lab.process import parent_bound
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], preexec_fn=parent_bound())
print(child.pid, flush=True)
time.sleep(60)
"""
BOUND = """
import subprocess, sys, time
from lab.process import parent_binding_command
command = [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"]
child = subprocess.Popen([*parent_binding_command(), *command], stdout=subprocess.PIPE)
print(child.pid, int(child.stdout.readline()), flush=True)
time.sleep(60)
"""
ORPHAN = """
import os
from lab.process import parent_bound
bind = parent_bound()
if os.fork() == 0:
    grandchild = os.fork()
    if grandchild == 0:
        bind()  # its parent is not the process that asked for the binding, as if that had died meanwhile
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]), flush=True)
    os._exit(0)
os.wait()
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture
def begin():
    running = []

    def run(command, **more):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, **more)
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.communicate(timeout=30)


def test_a_child_dies_when_its_parent_is_killed(begin) -> None:
    parent = begin([sys.executable, "-c", PARENT], cwd=ROOT)
    child = int(parent.stdout.readline())
    assert started(child) is not None
    parent.kill()
    assert wait_until(lambda: started(child) is None, 30)


@pytest.mark.skipif(not parent_binding_command(), reason="setpriv of util-linux is not on this machine")
def test_a_child_bound_without_python_in_between_is_the_command_and_dies_with_its_parent(begin) -> None:
    parent = begin([sys.executable, "-c", BOUND], cwd=ROOT)
    started_as, child = map(int, parent.stdout.readline().split())
    assert started_as == child, "the command takes the place of what binds it"
    parent.kill()
    assert wait_until(lambda: started(child) is None, 30)


def test_without_setpriv_there_is_no_binding_command(monkeypatch) -> None:
    parent_binding_command.cache_clear()
    monkeypatch.setattr("shutil.which", lambda *_, **__: sys.executable)  # a program that knows no such option
    assert parent_binding_command() == ()
    parent_binding_command.cache_clear()


def test_a_child_whose_parent_is_already_gone_kills_itself(begin) -> None:
    orphan = begin([sys.executable, "-c", ORPHAN], cwd=ROOT)
    assert orphan.communicate(timeout=30)[0].strip() == str(-signal.SIGKILL).encode()


def test_a_process_is_alive_only_with_its_own_start_time(begin) -> None:
    process = begin(SLEEP)
    since = started(process.pid)
    assert alive(process.pid, since)
    assert not alive(process.pid, since - 100)


def test_a_zombie_is_not_alive(begin) -> None:
    process = begin([sys.executable, "-c", ""])
    assert wait_until(lambda: started(process.pid) is None, 30)


def test_stop_asks_first_and_kills_after_the_grace_period(begin) -> None:
    process = begin(STUBBORN)
    process.stdout.readline()
    began = time.monotonic()
    assert stop(process.pid, started(process.pid), grace_seconds=0.3)
    assert 0.3 <= time.monotonic() - began < 20
    assert process.wait(30) == -signal.SIGKILL


def test_stop_leaves_a_process_alone_that_only_has_the_same_pid(begin) -> None:
    process = begin(SLEEP)
    assert stop(process.pid, 1.0, grace_seconds=0)
    assert process.poll() is None


def test_processes_of_a_lab_are_found_under_another_spelling_of_its_home(begin, tmp_path) -> None:
    home, other = tmp_path / "real", tmp_path / "other"
    home.mkdir()
    other.symlink_to("real")
    marked = begin(SLEEP, env={MARKER: str(other)})
    pod = begin(SLEEP, env={"HOME": str(home / "lab" / "sites" / "a" / "pods" / "b")})
    assert wait_until(lambda: of_lab(home).keys() == {marked.pid, pod.pid}, 30)
    assert of_lab(other).keys() == of_lab(home).keys()


def test_processes_of_a_lab_are_found_by_their_environment(begin, tmp_path) -> None:
    marked = begin(SLEEP, env={MARKER: str(tmp_path)})
    pod = begin(SLEEP, env={"HOME": str(tmp_path / "lab" / "sites" / "a" / "pods" / "b")})
    other = begin(SLEEP, env={MARKER: str(tmp_path / "other"), "HOME": str(tmp_path)})
    assert wait_until(lambda: of_lab(tmp_path).keys() == {marked.pid, pod.pid}, 30)
    assert stop_all(of_lab(tmp_path), grace_seconds=2) == {}
    assert of_lab(tmp_path) == {}
    assert other.poll() is None
