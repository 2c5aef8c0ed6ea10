"""A site's Kubernetes API in this process, as the lab serves it, and somebody who plays its controllers."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from drills import access
from drills.access import Cluster
from drills.lease import DOCUMENT, RELEASED, STATE, State
from lab.kubernetes.api.kinds import CONFIG_MAP, JOB, NAMESPACE, POD
from lab.kubernetes.api.server import application, listen
from lab.kubernetes.api.store import PatchType, Store
from stacks.contract import Deployment
from tests.drills.worlds import a_deployment

HOST = "127.84.1.1"
NAMESPACE_NAME = "tandem"
GATEWAY_FROM = [{"ipBlock": {"cidr": "127.0.0.0/8"}}, {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]
LOG = b"12:00:00 nothing of the drill is left\n"


def objects() -> list[tuple[str, dict[str, Any]]]:
    """What stands in a site that serves."""

    def serving(name: str, replicas: int) -> dict[str, Any]:
        labels = {"app.kubernetes.io/name": name}
        pod = {"containers": [{"name": "main", "image": "registry.example/a:1"}]}
        template = {"metadata": {"labels": labels}, "spec": pod}
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": NAMESPACE_NAME},
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
        }

    return [
        ("deployments", serving("gateway", 2)),
        ("deployments", serving("triton", 3)),
        (
            "networkpolicies",
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": "gateway", "namespace": NAMESPACE_NAME},
                "spec": {
                    "podSelector": {},
                    "policyTypes": ["Ingress"],
                    "ingress": [{"from": GATEWAY_FROM, "ports": [{"port": 8080, "protocol": "TCP"}]}],
                },
            },
        ),
        (
            "baremetalhosts",
            {
                "apiVersion": "metal3.io/v1alpha1",
                "kind": "BareMetalHost",
                "metadata": {"name": "host-1", "namespace": "default"},
                "spec": {"online": True},
            },
        ),
    ]


@dataclass
class SiteApi:
    """One site's API with its store, and the deployment whose sites are both this one."""

    url: str
    store: Store
    loop: asyncio.AbstractEventLoop
    deployment: Deployment
    log: list[bytes] = field(default_factory=lambda: [LOG])

    @property
    def cluster(self) -> Cluster:
        return access.cluster(self.deployment, "private")

    def inside(self, action: Callable[[Store], Any]) -> Any:
        """What a controller would do, on the server's loop."""
        done: Future[Any] = Future()

        def do() -> None:
            try:
                done.set_result(action(self.store))
            except Exception as error:  # noqa: BLE001  handed on to the test
                done.set_exception(error)

        self.loop.call_soon_threadsafe(do)
        return done.result(timeout=30)

    def maps(self) -> dict[str, dict[str, str]]:
        """Data of every lease's ConfigMap, by name."""
        listed = self.inside(lambda store: store.list(CONFIG_MAP, NAMESPACE_NAME))
        return {each["metadata"]["name"]: each.get("data", {}) for each in listed}

    def jobs(self) -> list[str]:
        listed = self.inside(lambda store: store.list(JOB, NAMESPACE_NAME))
        return [each["metadata"]["name"] for each in listed]

    def say(self, name: str, **data: str) -> None:
        """Write into a lease's ConfigMap."""
        self.inside(lambda store: store.patch(CONFIG_MAP, NAMESPACE_NAME, name, {"data": data}, PatchType.MERGE))

    def run_job(self, name: str) -> None:
        """As the Job's controller: one pod of it is active."""
        status = {"status": {"active": 1}}
        self.inside(lambda store: store.patch(JOB, NAMESPACE_NAME, name, status, PatchType.MERGE, subresource="status"))

    def pod(self, name: str, labels: dict[str, str], status: dict[str, Any]) -> None:
        """As a controller and a kubelet: a pod and how it is."""
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": NAMESPACE_NAME, "labels": labels},
            "spec": {"nodeName": "n1", "containers": [{"name": "main", "image": "registry.example/a:1"}]},
        }

        def make(store: Store) -> None:
            store.create(POD, pod)
            store.patch(POD, NAMESPACE_NAME, name, {"status": status}, PatchType.MERGE, subresource="status")

        self.inside(make)


@dataclass
class Stagehand:
    """Plays the Jobs of leases: stands, and ends once it is released."""

    api: SiteApi
    ends: str = State.CLEAN
    stopped: threading.Event = field(default_factory=threading.Event)

    def work(self) -> None:
        while not self.stopped.wait(0.02):
            for name in self.api.jobs():
                data = self.api.maps().get(name, {})
                if data.get(STATE) == State.WAITING:
                    self.api.run_job(name)
                    self.api.say(name, **{STATE: State.STANDING})
                elif data.get(RELEASED) and data.get(STATE) == State.STANDING:
                    self.api.say(name, **{STATE: self.ends})


@contextmanager
def playing(api: SiteApi, ends: str = State.CLEAN) -> Iterator[Stagehand]:
    hand = Stagehand(api, ends)
    thread = threading.Thread(target=hand.work, daemon=True)
    thread.start()
    try:
        yield hand
    finally:
        hand.stopped.set()
        thread.join(30)
        assert not thread.is_alive()


def kubeconfig(url: str) -> str:
    name = {"name": "a"}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{**name, "cluster": {"server": url}}],
            "users": [{**name, "user": {}}],
            "contexts": [{**name, "context": {"cluster": "a", "user": "a"}}],
            "current-context": "a",
        }
    )


@contextmanager
def serving_api() -> Iterator[SiteApi]:
    loop, store = asyncio.new_event_loop(), Store()
    log = [LOG]
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    app = application(store, pod_logs=lambda *_: b"".join(log))
    runner = asyncio.run_coroutine_threadsafe(listen(app, HOST, 0), loop).result(5)
    url = f"http://{HOST}:{runner.addresses[0][1]}"
    deployment = a_deployment()
    pools = {site: replace(pool, kubeconfig=kubeconfig(url)) for site, pool in deployment.pool.items()}
    api = SiteApi(url, store, loop, replace(deployment, pool=pools), log)
    kinds = {kind.plural: kind for kind in store.kinds}

    def furnish(store: Store) -> None:
        labels = {"tandem.io/environment": "lab"}
        metadata = {"name": NAMESPACE_NAME, "labels": labels}
        store.create(NAMESPACE, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        for plural, each in objects():
            store.create(kinds[plural], each)

    try:
        api.inside(furnish)
        yield api
    finally:
        api.cluster.api.rest_client.pool_manager.clear()
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()


__all__ = ["DOCUMENT", "SiteApi", "Stagehand", "kubeconfig", "playing", "serving_api"]
