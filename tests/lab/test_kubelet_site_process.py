"""The site as a process: stopped, killed, started again; nothing of a pod outlives it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest
from kubelet_bench import SiteProcess, container, leave_segment, pod, processes_of, segments, site_process, until

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
    await site.until(lambda: ready(site, "escaping"), 15, "ready")
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


async def test_orphans_are_adopted_and_reaped(tmp_path: Path) -> None:
    async with site_process(tmp_path) as site:
        await with_pod(site)
        main = next(pid for pid in processes_of(tmp_path) if "python" in psutil.Process(pid).name())
        os.kill(main, signal.SIGKILL)

        async def again() -> bool:
            status = (await site.get(f"{PODS}/escaping"))["status"]
            return bool(status["containerStatuses"][0]["restartCount"] == 1)

        await site.until(again, 10, "restarted")
        assert site.process

        def zombies() -> list[psutil.Process]:
            children = psutil.Process(site.process.pid).children(recursive=True) if site.process else []
            return [each for each in children if each.status() == psutil.STATUS_ZOMBIE]

        await until(lambda: not zombies(), 5, "no zombie stays")


async def test_logs_are_served_through_the_api(tmp_path: Path) -> None:
    async with site_process(tmp_path) as site:
        await with_pod(site)

        async def told() -> bool:
            return (await site.client.get(f"{PODS}/escaping/log")).text == "up\n"

        await site.until(told, 5, "the log")
        kubeconfig = site.home / "lab" / "sites" / "bench" / "kubeconfig.json"
        assert site.addresses.api_url in kubeconfig.read_text()
