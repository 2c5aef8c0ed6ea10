"""The pods bound to this site's nodes, as processes of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import aiohttp

from lab.kubernetes.api.errors import ApiError, NotFound
from lab.kubernetes.api.kinds import NODE, POD
from lab.kubernetes.api.objects import Object, name_of, namespace_of, terminating, uid_of
from lab.kubernetes.api.store import Store
from lab.kubernetes.controller import follow
from lab.kubernetes.environment import Placement
from lab.kubernetes.heartbeat import Heart
from lab.kubernetes.node_lifecycle import NODE_GRACE_SECONDS
from lab.kubernetes.pod import PodWorker
from lab.kubernetes.recorder import Recorder
from lab.kubernetes.run import POD_UID, freeze_marked, gone, kill_marked
from lab.kubernetes.scope import PodScope
from lab.kubernetes.sources import StoreSources
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


class Kubelet:
    """Starts what is bound to a node, ends what is deleted, and tells the store what really runs.

    For a node whose machine is off it does nothing of that: its pods stand still until the machine boots.
    """

    def __init__(
        self,
        store: Store,
        addresses: SiteAddresses,
        folders: Folders,
        *,
        back_off_seconds: float = BACK_OFF_SECONDS,
        node_grace_seconds: float = NODE_GRACE_SECONDS,
    ) -> None:
        self._store = store
        self.folders = folders
        self._sources = StoreSources(store, addresses)
        self._recorder = Recorder(store, "kubelet")
        self._back_off_seconds = back_off_seconds
        self._workers: dict[str, PodWorker] = {}
        self._endings: set[asyncio.Task[None]] = set()
        self._addresses: Iterator[str] = cycle(tuple(addresses.pod_addresses()))
        self._session: aiohttp.ClientSession | None = None
        self._closing = False
        self._off: set[str] = set()
        self._boots: dict[str, asyncio.Task[None]] = {}
        self._heart = Heart(store, node_grace_seconds, lambda node: node not in self._off)

    async def run(self) -> None:
        """Follow the pods and the nodes until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(follow(self._store, POD, self._pod_changed))
            group.create_task(follow(self._store, NODE, self._node_changed))
            group.create_task(self._heart.run())

    async def stop(self, grace_seconds: float) -> None:
        """End every pod, none with more than this grace and none with its preStop hook: nobody is served any more.

        Afterwards nothing of any pod is left.
        """
        self._closing = True
        for boot in self._boots.values():
            boot.cancel()
        for worker in list(self._workers.values()):
            if worker.dark:
                await worker.dropped()
                worker.wake()
                self._ends(worker, 0.0, hooks=False)
                continue
            wanted = float(worker.pod["spec"].get("terminationGracePeriodSeconds", 30))
            self._ends(worker, min(wanted, grace_seconds), hooks=False)
        while self._endings:
            await asyncio.wait(self._endings)
        if self._session:
            await self._session.close()

    def power_off(self, node: str) -> None:
        """The node's machine loses power: its pods stand still where they are, and it is not heard of any more."""
        if boot := self._boots.pop(node, None):
            boot.cancel()
        if node in self._off:
            return
        self._off.add(node)
        workers = self._on(node)
        freeze_marked(POD_UID, [worker.uid for worker in workers])
        for worker in workers:
            worker.freeze()

    def power_on(self, node: str) -> None:
        """The node's machine boots: what stood still is killed, then its pods start anew."""
        if node in self._off and node not in self._boots:
            self._boots[node] = asyncio.create_task(self._boot(node), name=f"boot of {node}")

    async def _boot(self, node: str) -> None:
        workers = self._on(node)
        left = [pid for worker in workers for pid in kill_marked(POD_UID, worker.uid)]
        if not await gone(left):
            log.error("processes %s of node %s survived SIGKILL", left, node)
        for worker in workers:
            await worker.dropped()
        self._off.discard(node)
        self._boots.pop(node, None)
        for worker in workers:
            worker.wake()
            self._resume(worker)
        for pod in self._store.list(POD, field_selector=f"spec.nodeName={node}"):
            self._pod_changed("MODIFIED", pod)  # what was bound or deleted meanwhile
        self._heart.boot(node)

    def _resume(self, worker: PodWorker) -> None:
        """After a boot: a pod that is wanted starts anew, one that is over stays, any other one goes."""
        with contextlib.suppress(NotFound):
            pod = self._store.get(POD, namespace_of(worker.pod), name_of(worker.pod))
            if uid_of(pod) == worker.uid and not terminating(pod):
                if (pod.get("status") or {}).get("phase") not in {"Succeeded", "Failed"}:
                    self._begin(pod, worker)
                return
        self._ends(worker, 0.0, hooks=False)

    def _on(self, node: str) -> list[PodWorker]:
        return [worker for worker in self._workers.values() if worker.pod["spec"].get("nodeName") == node]

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
        if worker.dark:
            raise ApiError(
                f'node {worker.pod["spec"]["nodeName"]} of pod "{name}" does not answer', kind=POD, name=name
            )
        chosen = container or worker.pod["spec"]["containers"][0]["name"]
        file = worker.log_file(chosen, previous)
        if file is None or not file.is_file():
            which = "previous terminated container" if previous else "container"
            raise NotFound(f'{which} "{chosen}" in pod "{name}" not found, or it has not started', kind=POD, name=name)
        text = file.read_bytes()
        return text if tail is None else b"".join(text.splitlines(keepends=True)[-tail:] if tail else [])

    def _pod_changed(self, change: str, pod: Object) -> None:
        if pod["spec"].get("nodeName") in self._off:
            return
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
            for worker in self._on(name_of(node)):
                if not worker.dark:  # a machine that is off learns of nothing
                    self._ends(worker, 0.0)
            for pod in self._store.list(POD, field_selector=f"spec.nodeName={name_of(node)}"):
                self._remove(pod)
        elif change == "ADDED":
            self._heart.beat(node)
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

    def _begin(self, pod: Object, before: PodWorker | None = None) -> None:
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
                folder=self.folders.pods / uid_of(pod),
                image_home=self.folders.images,
                lab_home=self.folders.home,
                placement=Placement(ip, host_ip, status.get("allocatable") or {}),
                sources=self._sources,
                session=session,
                recorder=self._recorder,
                back_off_seconds=self._back_off_seconds,
                changed=changed,
            )

        worker = PodWorker(pod, self._store, scope, self.folders.claims, self._names, before)
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
        if worker.dark:
            return
        self._workers.pop(worker.uid, None)
        if not ending.cancelled() and (error := ending.exception()):
            log.error("pod %s did not end cleanly", name_of(worker.pod), exc_info=error)
        self._remove(worker.pod)

    def _remove(self, pod: Object) -> None:
        with contextlib.suppress(ApiError):
            self._store.delete(
                POD, namespace_of(pod), name_of(pod), grace_period_seconds=0, preconditions={"uid": uid_of(pod)}
            )
