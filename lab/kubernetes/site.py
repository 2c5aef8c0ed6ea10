"""One site's Kubernetes in one process, `python -m lab.kubernetes.site`: API, controllers, scheduler, kubelet."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

from lab.kubernetes import leftover_pods
from lab.kubernetes.accounts import ServiceAccountController
from lab.kubernetes.api.server import application, listen
from lab.kubernetes.api.store import Store
from lab.kubernetes.chaos import HttpChaosController, NetworkChaosController
from lab.kubernetes.controller import Controller
from lab.kubernetes.cronjob import CronJobController
from lab.kubernetes.daemonset import DaemonSetController
from lab.kubernetes.deployment import DeploymentController
from lab.kubernetes.eks import NodeGroupPoller
from lab.kubernetes.endpoints import EndpointsController
from lab.kubernetes.job import JobController
from lab.kubernetes.kubelet import BACK_OFF_SECONDS, Folders, Kubelet
from lab.kubernetes.machine_health import MachineHealthController
from lab.kubernetes.machines import MachineController, MachineDeploymentController
from lab.kubernetes.node_lifecycle import NODE_GRACE_SECONDS, NodeLifecycleController
from lab.kubernetes.nodes import GpuController
from lab.kubernetes.power import PowerController
from lab.kubernetes.proxy import ServiceProxy
from lab.kubernetes.replicaset import ReplicaSetController
from lab.kubernetes.run import reap_adopted
from lab.kubernetes.scheduler import Scheduler
from lab.kubernetes.services import LoadBalancerController
from lab.kubernetes.taint_eviction import TaintEvictionController
from lab.process import become_subreaper, die_with_parent
from lab.topology import SiteAddresses, Topology, home_directory, lab_directory

log = logging.getLogger(__name__)

STOP_GRACE_SECONDS: Final = 5.0
"""What a pod has left when its whole site stops: nobody is served any more."""
REAP_AGAIN_SECONDS: Final = 0.05


class Site:
    """A running site; what `start` starts, `stop` ends, down to the last process, segment and folder of a pod."""

    def __init__(
        self,
        addresses: SiteAddresses,
        home: Path,
        *,
        aws_url: str = "",
        back_off_seconds: float = BACK_OFF_SECONDS,
        node_grace_seconds: float = NODE_GRACE_SECONDS,
    ) -> None:
        self.addresses = addresses
        self.home = home
        self.folder = lab_directory(home) / "sites" / addresses.name
        self.store = Store(cluster_ips=addresses.cluster_ips(), service_network=addresses.service_network)
        self.kubelet = Kubelet(
            self.store,
            addresses,
            Folders(home, self.folder),
            back_off_seconds=back_off_seconds,
            node_grace_seconds=node_grace_seconds,
        )
        self._controllers: list[Controller] = [
            kind(self.store)
            for kind in (
                ServiceAccountController,
                DeploymentController,
                ReplicaSetController,
                DaemonSetController,
                CronJobController,
                MachineDeploymentController,
                MachineHealthController,
                GpuController,
                Scheduler,
                EndpointsController,
                LoadBalancerController,
                NetworkChaosController,
                HttpChaosController,
                TaintEvictionController,
            )
        ]
        self._controllers += [
            MachineController(self.store, addresses),
            NodeLifecycleController(self.store, node_grace_seconds),
            PowerController(self.store, self.kubelet),
        ]
        self._controllers.append(JobController(self.store, back_off_seconds=back_off_seconds))
        self._proxy = ServiceProxy(self.store)
        self._nodes = (
            NodeGroupPoller(self.store, addresses, aws_url) if addresses.kind == "public" and aws_url else None
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._kubelet_task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Clear what a killed predecessor left, then serve."""
        self.folder.mkdir(parents=True, exist_ok=True)
        await leftover_pods.clear(self.kubelet.folders)
        api = application(self.store, pod_logs=self.kubelet.logs)
        self._runner = await listen(api, self.addresses.api_host, self.addresses.api_port)
        self._tasks = [
            asyncio.create_task(self._watched(controller.run(), type(controller).__name__))
            for controller in self._controllers
        ]
        self._tasks.append(asyncio.create_task(self._watched(self._proxy.run(), "ServiceProxy")))
        if self._nodes:
            self._tasks.append(asyncio.create_task(self._watched(self._nodes.run(), "NodeGroupPoller")))
        self._kubelet_task = asyncio.create_task(self._watched(self.kubelet.run(), "Kubelet"))
        config = self.folder / "kubeconfig.json"
        config.write_text(json.dumps(kubeconfig(self.addresses), indent=1))

    async def stop(self) -> None:
        """Controllers first, so that nothing comes back; then the pods; the API last."""
        await _cancel(self._tasks)
        await self.kubelet.stop(STOP_GRACE_SECONDS)
        if self._kubelet_task:
            await _cancel([self._kubelet_task])
        await self.close_api()
        with contextlib.suppress(OSError):
            (self.folder / "pods").rmdir()

    async def close_api(self) -> None:
        """Stop serving the API; what runs goes on running."""
        await self._runner.cleanup()

    async def _watched(self, work: Any, name: str) -> None:
        """A part that fails takes the process down: half a site would look like a whole one."""
        try:
            await work
        except asyncio.CancelledError:
            raise
        except BaseException:
            log.exception("%s of site %s failed; the site stops", name, self.addresses.name)
            os.kill(os.getpid(), signal.SIGTERM)
            raise


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def kubeconfig(addresses: SiteAddresses) -> dict[str, Any]:
    """How a client finds this site's API."""
    name = addresses.name
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": addresses.api_url}}],
        "users": [{"name": name, "user": {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }


async def serve(topology: Topology, home: Path, name: str) -> None:
    """Run one site until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    site = Site(topology.site(name), home, aws_url=topology.aws_url)
    become_subreaper()
    loop.add_signal_handler(signal.SIGCHLD, _reap, loop)
    await site.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await stopped.wait()
    await site.stop()


def _reap(loop: asyncio.AbstractEventLoop) -> None:
    if not reap_adopted():
        loop.call_later(REAP_AGAIN_SECONDS, _reap, loop)


def main() -> None:
    """Entry of the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", required=True)
    parser.add_argument("--site", required=True)
    arguments = parser.parse_args()
    die_with_parent()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    home = home_directory(arguments.home)
    asyncio.run(serve(Topology.load(home), home, arguments.site))


if __name__ == "__main__":
    main()
