"""The site as a process: stopped, killed, started again; nothing of a pod outlives it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from kubelet_bench import SiteProcess, container, leave_segment, pod, processes_of, segments, site_process, until

from lab.leftovers import sweep

pytestmark = pytest.mark.live

PODS = "/api/v1/namespaces/default/pods"
LONG_LIVED = """
import subprocess, time
subprocess.Popen(['sleep', '1003'], start_new_session=True)
print('up', flush=True)
time.sleep(1000)
"""


async def ready(site: SiteProcess, name: str) -> bool:
    status = (await site.get(f"{PODS}/{name}")).get("status") or {}
    return any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or [])


async def with_pod(site: SiteProcess) -> None:
    await site.create(PODS, pod("escaping", container("main", "python", "-c", LONG_LIVED)))
    await site.until(lambda: ready(site, "escaping"), 30, "ready")
    await until(lambda: len(processes_of(site.home)) == 2)


async def test_sigterm_ends_every_pod_and_leaves_neither_process_nor_folder(tmp_path: Path) -> None:
    async with site_process(tmp_path) as site:
        await with_pod(site)
        leave_segment("escaping-region")
        assert await site.stop() == 0
        assert processes_of(tmp_path) == []
        assert not segments("escaping")
        assert not (site.home / "lab" / "sites" / "bench" / "pods").exists()


async def test_after_a_kill_the_next_start_clears_what_was_left(tmp_path: Path) -> None:
    async with site_process(tmp_path) as site:
        await with_pod(site)
        leave_segment("escaping-region")
        await site.kill()
        await until(lambda: len(processes_of(tmp_path)) == 1, what="only what has left its process group survives")
        left = processes_of(tmp_path)
        await site.start()
        await until(lambda: not psutil.pid_exists(left[0]) or psutil.Process(left[0]).status() == psutil.STATUS_ZOMBIE)
        assert not segments("escaping")
        assert not list((site.home / "lab" / "sites" / "bench" / "pods").glob("*"))
        assert (await site.get(PODS))["items"] == []


HOSTS = "/apis/metal3.io/v1alpha1/namespaces/default/baremetalhosts"
MAPPED = """
import mmap, os, subprocess, time
file = os.open('/dev/shm/escaping-mapped', os.O_RDWR | os.O_CREAT)
os.ftruncate(file, 4096)
region = mmap.mmap(file, 4096)
CHILD = 'import mmap, os, time; r = mmap.mmap(os.open("/dev/shm/escaping-mapped", os.O_RDWR), 4096); time.sleep(1000)'
subprocess.Popen(['sleep', '1003'], start_new_session=True)
subprocess.Popen(['python', '-c', CHILD])
print('up', flush=True)
time.sleep(1000)
"""


def commands(home: Path) -> set[tuple[str, ...]]:
    return {tuple(psutil.Process(pid).cmdline()) for pid in processes_of(home)}


async def without_power(site: SiteProcess) -> list[int]:
    """Processes of a pod that stand still: the container's own, one of its group, one that has left its group."""
    await site.create(PODS, pod("escaping", container("main", "python", "-c", MAPPED)))
    await site.until(lambda: ready(site, "escaping"), 30, "ready")
    await until(
        lambda: len(commands(site.home)) == 3, what="three commands run; a child that has yet to become one shares"
    )
    await until(lambda: sum(map(maps, processes_of(site.home))) == 2, what="two of them have the segment open")
    hosts = (await site.get(HOSTS))["items"]
    path, change = f"{HOSTS}/{hosts[0]['metadata']['name']}", {"spec": {"online": False}}
    answer = await site.client.patch(path, json=change, headers={"Content-Type": "application/merge-patch+json"})
    assert answer.status_code == 200, answer.text
    found = processes_of(site.home)
    await until(lambda: {psutil.Process(pid).status() for pid in found} == {psutil.STATUS_STOPPED})
    return found


async def test_sigterm_ends_what_stands_still_without_waiting_for_it(tmp_path: Path) -> None:
    async with site_process(tmp_path) as site:
        await without_power(site)
        leave_segment("escaping-region")
        began = time.monotonic()
        assert await site.stop() == 0
        assert time.monotonic() - began < 4, "less than what a pod is given"
        assert processes_of(tmp_path) == []
        assert not segments("escaping")


async def test_after_a_kill_what_stands_still_is_ended_by_the_kernel_or_the_next_start(tmp_path: Path) -> None:
    async with site_process(tmp_path) as site:
        frozen = await without_power(site)
        main = next(pid for pid in frozen if psutil.Process(pid).ppid() == (site.process and site.process.pid))
        await site.kill()
        await until(lambda: not lives(main), 30, "the kernel ends a container's process, stopped or not")
        left = [pid for pid in frozen if lives(pid)]
        assert left, "a process whose parent was in the pod is bound to nobody"
        await site.start()
        await until(lambda: not any(map(lives, left)))
        assert not segments("escaping")


async def test_after_a_kill_the_sweep_of_lab_down_ends_what_stands_still(tmp_path: Path) -> None:
    async with site_process(tmp_path) as site:
        frozen = await without_power(site)
        await site.kill()
        swept = sweep(tmp_path, None, grace_seconds=0.5)
        assert swept.survivors == ()
        assert "escaping-mapped" in swept.segments
        assert not any(map(lives, frozen))


def maps(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "/dev/shm/escaping-mapped" in Path(f"/proc/{pid}/maps").read_text()  # noqa: S108 -- looked for by name
    return False


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_orphans_are_adopted_and_reaped(tmp_path: Path) -> None:
    async with site_process(tmp_path) as site:
        await with_pod(site)
        main = next(pid for pid in processes_of(tmp_path) if "python" in psutil.Process(pid).name())
        os.kill(main, signal.SIGKILL)

        async def again() -> bool:
            status = (await site.get(f"{PODS}/escaping"))["status"]
            return bool(status["containerStatuses"][0]["restartCount"] == 1)

        await site.until(again, 30, "restarted")
        assert site.process

        def zombies() -> list[psutil.Process]:
            children = psutil.Process(site.process.pid).children(recursive=True) if site.process else []
            return [each for each in children if each.status() == psutil.STATUS_ZOMBIE]

        await until(lambda: not zombies(), 30, "no zombie stays")


async def test_logs_are_served_through_the_api(tmp_path: Path) -> None:
    async with site_process(tmp_path) as site:
        await with_pod(site)

        async def told() -> bool:
            return (await site.client.get(f"{PODS}/escaping/log")).text == "up\n"

        await site.until(told, 30, "the log")
        kubeconfig = site.home / "lab" / "sites" / "bench" / "kubeconfig.json"
        assert site.addresses.api_url in kubeconfig.read_text()
