"""The pods bound to this site's nodes, as processes of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import aiohttp

from lab.kubernetes.api.errors import ApiError, NotFound
from lab.kubernetes.api.kinds import CONFIG_MAP, NODE, POD, SECRET, SERVICE
from lab.kubernetes.api.objects import Object, name_of, namespace_of, uid_of
from lab.kubernetes.api.store import Store
from lab.kubernetes.controller import follow
from lab.kubernetes.environment import Placement
from lab.kubernetes.pod import IDENTITY, PodWorker
from lab.kubernetes.recorder import Recorder
from lab.kubernetes.run import POD_UID, gone, kill_marked
from lab.kubernetes.scope import PodScope
from lab.kubernetes.volumes import shared_memory_of
from lab.topology import SiteAddresses

log = logging.getLogger(__name__)

BACK_OFF_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Folders:
    """Where a site keeps what its pods need."""

    home: Path
    """The lab's home, `$TANDEM_HOME`."""
    site: Path
    """The site's own folder."""

    @property
    def pods(self) -> Path:
        """One folder per pod, named by its uid; gone with it."""
        return self.site / "pods"

    @property
    def claims(self) -> Path:
        """Volumes of claims; they outlive their pods."""
        return self.site / "volumes"

    @property
    def images(self) -> Path:
        """What images are made of; shared by the sites."""
        return self.home / "lab" / "images"


@dataclass(frozen=True)
class StoreSources:
    """What containers ask the API for, read from the store."""

    store: Store
    addresses: SiteAddresses

    def config_map(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """The ConfigMap, None where there is none."""
        with contextlib.suppress(NotFound):
            return self.store.get(CONFIG_MAP, namespace, name)
        return None

    def secret(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """The Secret, None where there is none."""
        with contextlib.suppress(NotFound):
            return self.store.get(SECRET, namespace, name)
        return None

    def services(self, namespace: str) -> Sequence[Mapping[str, Any]]:
        """Every Service of the namespace."""
        return self.store.list(SERVICE, namespace)

    def api_server(self) -> tuple[str, int]:
        """Host and port of the site's Kubernetes API."""
        return self.addresses.api_host, self.addresses.api_port


class Kubelet:
    """Starts what is bound to a node, ends what is deleted, and tells the store what really runs."""

    def __init__(
        self, store: Store, addresses: SiteAddresses, folders: Folders, *, back_off_seconds: float = BACK_OFF_SECONDS
    ) -> None:
        self._store = store
        self._folders = folders
        self._sources = StoreSources(store, addresses)
        self._recorder = Recorder(store, "kubelet")
        self._back_off_seconds = back_off_seconds
        self._workers: dict[str, PodWorker] = {}
        self._endings: set[asyncio.Task[None]] = set()
        self._addresses: Iterator[str] = cycle(tuple(addresses.pod_addresses()))
        self._session: aiohttp.ClientSession | None = None
        self._closing = False

    async def run(self) -> None:
        """Follow the pods and the nodes until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(follow(self._store, POD, self._pod_changed))
            group.create_task(follow(self._store, NODE, self._node_changed))

    async def stop(self, grace_seconds: float) -> None:
        """End every pod, none with more than this grace and none with its preStop hook: nobody is served any more.

        Afterwards nothing of any pod is left.
        """
        self._closing = True
        for worker in list(self._workers.values()):
            wanted = float(worker.pod["spec"].get("terminationGracePeriodSeconds", 30))
            self._ends(worker, min(wanted, grace_seconds), hooks=False)
        while self._endings:
            await asyncio.wait(self._endings)
        if self._session:
            await self._session.close()

    def logs(self, namespace: str, name: str, container: str | None, previous: bool, tail: int | None) -> bytes:
        """What a container wrote; NotFound where there is no such pod, container or run."""
        worker = next(
            (
                each
                for each in self._workers.values()
                if (namespace_of(each.pod), name_of(each.pod)) == (namespace, name)
            ),
            None,
        )
        if worker is None:
            raise NotFound(f'pod "{name}" has no logs: it does not run on a node of this site', kind=POD, name=name)
        chosen = container or worker.pod["spec"]["containers"][0]["name"]
        file = worker.log_file(chosen, previous)
        if file is None or not file.is_file():
            which = "previous terminated container" if previous else "container"
            raise NotFound(f'{which} "{chosen}" in pod "{name}" not found, or it has not started', kind=POD, name=name)
        text = file.read_bytes()
        return text if tail is None else b"".join(text.splitlines(keepends=True)[-tail:] if tail else [])

    async def clear_leftovers(self) -> None:
        """End and remove what a killed predecessor left: its processes, shared memory and pod folders."""
        if not self._folders.pods.is_dir():
            return
        for folder in self._folders.pods.iterdir():
            left = kill_marked(POD_UID, folder.name)
            if left:
                log.warning("pod %s of an earlier life still had processes %s", folder.name, left)
                await gone(left)
            with contextlib.suppress(OSError, ValueError, KeyError):
                name = json.loads((folder / IDENTITY).read_text())["name"]
                for segment in shared_memory_of(name, ()):
                    segment.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)

    def _pod_changed(self, change: str, pod: Object) -> None:
        worker = self._workers.get(uid_of(pod))
        if change == "DELETED":
            if worker:  # deleted without grace: the object is gone already
                self._ends(worker, 0.0)
        elif pod["metadata"].get("deletionTimestamp"):
            grace = float(pod["metadata"].get("deletionGracePeriodSeconds") or 0)
            if worker:
                worker.update(pod)
                self._recorder.normal(pod, "Killing", f"Stopping pod {name_of(pod)}")
                self._ends(worker, grace)
            else:
                self._remove(pod)
        elif worker:
            worker.update(pod)
        elif not self._closing and self._is_mine(pod):
            self._begin(pod)

    def _node_changed(self, change: str, node: Object) -> None:
        if change == "DELETED":  # a lost node takes its pods with it
            for worker in list(self._workers.values()):
                if worker.pod["spec"].get("nodeName") == name_of(node):
                    self._ends(worker, 0.0)
            for pod in self._store.list(POD, field_selector=f"spec.nodeName={name_of(node)}"):
                self._remove(pod)
        elif change == "ADDED":
            for pod in self._store.list(POD, field_selector=f"spec.nodeName={name_of(node)}"):
                self._pod_changed("MODIFIED", pod)

    def _is_mine(self, pod: Object) -> bool:
        """Whether the pod is bound to a node there is, and not over."""
        if (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}:
            return False
        return bool(pod["spec"].get("nodeName")) and self._node(pod) is not None

    def _node(self, pod: Object) -> Object | None:
        with contextlib.suppress(NotFound):
            return self._store.get(NODE, None, pod["spec"].get("nodeName", ""))
        return None

    def _begin(self, pod: Object) -> None:
        node = self._node(pod) or {}
        status = node.get("status") or {}
        internal = [each["address"] for each in status.get("addresses") or [] if each["type"] == "InternalIP"]
        host_ip = internal[0] if internal else ""
        ip = host_ip if pod["spec"].get("hostNetwork") else self._free_address()
        if self._session is None:
            # one connection per probe, as kubelets do
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0))
        session = self._session

        def scope(changed: Any) -> PodScope:
            return PodScope(
                pod=pod,
                folder=self._folders.pods / uid_of(pod),
                image_home=self._folders.images,
                lab_home=self._folders.home,
                placement=Placement(ip, host_ip, status.get("allocatable") or {}),
                sources=self._sources,
                session=session,
                recorder=self._recorder,
                back_off_seconds=self._back_off_seconds,
                changed=changed,
            )

        worker = PodWorker(pod, self._store, scope, self._folders.claims, self._names)
        self._workers[uid_of(pod)] = worker
        worker.begin()

    def _names(self) -> list[str]:
        return [name_of(worker.pod) for worker in self._workers.values()]

    def _free_address(self) -> str:
        taken = {worker.ip for worker in self._workers.values()}
        return next(address for address in self._addresses if address not in taken)

    def _ends(self, worker: PodWorker, grace_seconds: float, *, hooks: bool = True) -> None:
        ending = worker.terminate(grace_seconds, hooks=hooks)
        if ending not in self._endings:
            self._endings.add(ending)
            ending.add_done_callback(lambda done: self._ended(worker, done))

    def _ended(self, worker: PodWorker, ending: asyncio.Task[None]) -> None:
        self._endings.discard(ending)
        self._workers.pop(worker.uid, None)
        if not ending.cancelled() and (error := ending.exception()):
            log.error("pod %s did not end cleanly", name_of(worker.pod), exc_info=error)
        self._remove(worker.pod)

    def _remove(self, pod: Object) -> None:
        with contextlib.suppress(ApiError):
            self._store.delete(
                POD, namespace_of(pod), name_of(pod), grace_period_seconds=0, preconditions={"uid": uid_of(pod)}
            )
