"""Engines forked from one host do what engines started anew do, and nothing of them is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from engine_fake import Cloud
from engine_fake import Workspace as Programs

from lab.engine import launch
from lab.engine.host import sdk_imports
from lab.engine.project import Project
from stacks.forks import Fork, Forks
from stacks.process import Done, Processes

ROOT = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 60.0
STACK = ["--stack", "storage-private.lab"]
LOOK = """
import os, sys
with open("seen", "a") as file:
    print("pulumi_aws.s3.bucket" in sys.modules, file=file)
import pulumi
pulumi.export("pid", os.getpid())
"""
SLEEP = "import time\nopen('sleeping', 'w').close()\ntime.sleep(600)\n"


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def forks() -> Iterator[Forks]:
    forks = Forks(ROOT)
    yield forks
    forks.close()


@pytest.fixture
def programs(echo: tuple[Cloud, int], tmp_path: Path) -> Programs:
    return Programs(tmp_path, echo[1])


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before = set(psutil.Process().children(recursive=True))
    yield
    until(lambda: not [each for each in descendants() if each not in before])


def descendants() -> list[psutil.Process]:
    return [each for each in psutil.Process().children(recursive=True) if each.status() != psutil.STATUS_ZOMBIE]


def run(forks: Forks, programs: Programs, *arguments: str) -> Done:
    environment = {**programs.environment, "PYTHONPATH": f"{programs.root}{os.pathsep}{ROOT}"}
    where = ["--state-dir", str(programs.states), "--root", str(programs.root)]
    return Processes(forks.start).run([*arguments, *STACK, *where], environment, programs.root, LIMIT_SECONDS)


@pytest.mark.live
def test_a_program_begins_in_a_process_that_has_imported_what_the_project_needs_and_has_one_thread(
    forks: Forks, programs: Programs
) -> None:
    (programs.root / "infra").mkdir()
    (programs.root / "infra" / "stores.py").write_text("from pulumi_aws import s3\n")
    (programs.root / "stacks" / "__main__.py").write_text(LOOK)
    done = run(forks, programs, "up")
    assert done.code == 0, done.errors
    assert (programs.root / "stacks" / "seen").read_text().splitlines() == ["True", "True"], "in both passes"
    (host,) = descendants()
    assert host.num_threads() == 1
    program = json.loads(run(forks, programs, "outputs").output)["pid"]
    assert not psutil.pid_exists(program)


@pytest.mark.live
def test_what_an_engine_says_and_how_it_ends_is_what_one_started_anew_says(forks: Forks, programs: Programs) -> None:
    (programs.root / "stacks" / "__main__.py").write_text("print('hello')\nraise ValueError('no such luck')\n")
    for arguments in (("outputs",), ("up",), ("import",)):
        forked = run(forks, programs, *arguments)
        alone = programs.run(*arguments)
        assert (forked.code, forked.output, forked.errors) == (alone.returncode, alone.stdout, alone.stderr.rstrip())
        assert forked.code == 1


@pytest.mark.live
def test_an_engine_has_the_environment_of_its_job_and_no_other(forks: Forks, programs: Programs) -> None:
    program = "import os, pulumi\npulumi.export('seen', [os.environ.get('ONE'), os.environ.get('TWO')])\n"
    (programs.root / "stacks" / "__main__.py").write_text(program)
    base = {key: value for key, value in programs.environment.items() if key not in {"ONE", "TWO"}}
    seen = []
    for extra in ({"ONE": "1"}, {"TWO": "2"}, {"ONE": "3"}):
        where = ["--state-dir", str(programs.states), "--root", str(programs.root)]
        environment = {**base, **extra, "PYTHONPATH": str(ROOT)}
        done = Processes(forks.start).run(["up", *STACK, *where], environment, programs.root, LIMIT_SECONDS)
        assert done.code == 0, done.errors
        seen.append(json.loads(run(forks, programs, "outputs").output)["seen"])
    assert seen == [["1", None], [None, "2"], ["3", None]]


@pytest.mark.live
def test_a_host_that_cannot_start_is_said_with_its_reason(programs: Programs) -> None:
    (programs.root / "lab").mkdir()
    (programs.root / "lab" / "__init__.py").write_text("raise ImportError('a lab that is broken')\n")
    forks = Forks(programs.root)
    done = run(forks, programs, "up")
    assert done.code != 0
    assert "the engines' host ended with 1" in done.errors
    assert "a lab that is broken" in done.errors


@pytest.mark.live
@pytest.mark.parametrize("killed", ["host", "engine", "program"])
def test_who_is_killed_takes_what_it_started_along_and_the_next_engine_runs(
    forks: Forks, programs: Programs, killed: str
) -> None:
    (programs.root / "stacks" / "__main__.py").write_text(SLEEP)
    before = descendants()
    process = forks.start(
        ["up", *STACK, "--state-dir", str(programs.states), "--root", str(programs.root)],
        {**programs.environment, "PYTHONPATH": f"{programs.root}{os.pathsep}{ROOT}"},
        programs.root,
    )
    until((programs.root / "stacks" / "sleeping").exists)
    line = [each for each in descendants() if each not in before]
    assert len(line) == 3
    victim = line[["host", "engine", "program"].index(killed)]
    victim.kill()
    assert process.wait(LIMIT_SECONDS) == (1 if killed == "program" else -signal.SIGKILL)
    process.stdout.close()
    process.stderr.close()
    until(lambda: not any(each.is_running() for each in line[1:]))
    (programs.root / "stacks" / "__main__.py").write_text("")
    assert run(forks, programs, "up").code == 0


@pytest.mark.live
def test_an_interrupted_engine_records_and_says_so(forks: Forks, programs: Programs) -> None:
    (programs.root / "stacks" / "__main__.py").write_text(SLEEP)
    processes = Processes(forks.start)
    environment = {**programs.environment, "PYTHONPATH": str(ROOT)}
    arguments = ["up", *STACK, "--state-dir", str(programs.states), "--root", str(programs.root)]

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(processes.run, arguments, environment, programs.root, LIMIT_SECONDS)
        until((programs.root / "stacks" / "sleeping").exists)
        processes.interrupt()
        done = running.result(LIMIT_SECONDS)
    assert done.code == 1
    assert "interrupted; what was finished is recorded" in done.errors


def test_a_signal_sent_before_the_process_is_there_reaches_it() -> None:
    fork = Fork(["up"])
    fork.kill()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        fork.began(os.pidfd_open(process.pid))
        assert process.wait(LIMIT_SECONDS) == -signal.SIGKILL
    assert fork.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        fork.wait(0.01)
    fork.ended(-signal.SIGKILL)
    fork.kill()
    assert fork.wait(0) == -signal.SIGKILL
    fork.stdout.close()
    fork.stderr.close()


def test_every_way_to_import_an_sdk_is_found(tmp_path: Path) -> None:
    room = tmp_path / "infra"
    room.mkdir()
    (room / "a.py").write_text(
        "from pulumi_aws import ec2, lb\nimport pulumi_kubernetes as kubernetes\nimport pulumi\n"
    )
    (room / "b.py").write_text("from pulumi_kubernetes.core.v1 import (\n    Secret,\n)\n# import pulumi_nothing\n")
    assert sdk_imports(tmp_path) == {
        ("pulumi_aws", "ec2, lb", ""),
        ("", "", "pulumi_kubernetes"),
        ("pulumi_kubernetes.core.v1", "", ""),
    }


def test_a_process_with_threads_is_not_copied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(launch, "spawned", lambda *_: "a new interpreter")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: None).result(LIMIT_SECONDS)
        assert launch.forked(Project("p", tmp_path, tmp_path, ()), 0, 1, 2) == "a new interpreter"
