"""The nodes of a public site: what the node groups of its EKS clusters ask for."""

from __future__ import annotations

import asyncio
import logging
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from lab.kubernetes.api.errors import ApiError
from lab.kubernetes.api.kinds import NODE
from lab.kubernetes.api.objects import labels_of, name_of
from lab.kubernetes.api.store import Store
from lab.kubernetes.nodes import NoAddressError, Shape, register, retire
from lab.topology import SiteAddresses

if TYPE_CHECKING:
    from mypy_boto3_eks import EKSClient

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 2.0
SEARCH_LIMIT_SECONDS: Final = 8.0
"""Looking for a cluster means asking every region: as long as none is found, it is done less and less often."""
SITE_TAG: Final = "tandem.io/site"
GROUP_LABEL: Final = "eks.amazonaws.com/nodegroup"
CLUSTER_LABEL: Final = "alpha.eksctl.io/cluster-name"
EFFECTS: Final = {"NO_SCHEDULE": "NoSchedule", "PREFER_NO_SCHEDULE": "PreferNoSchedule", "NO_EXECUTE": "NoExecute"}

_SIZES: Final = {
    "medium": (1, 4), "large": (2, 8), "xlarge": (4, 16), "2xlarge": (8, 32), "4xlarge": (16, 64), "8xlarge": (32, 128),
    "12xlarge": (48, 192), "16xlarge": (64, 256), "24xlarge": (96, 384), "48xlarge": (192, 768),
}  # fmt: skip
"""vCPU and GiB of the general-purpose sizes (https://aws.amazon.com/ec2/instance-types/)."""
_GENERAL: Final = ("m5", "m6a", "m6i", "m7a", "m7i", "m8i")
_GPUS: Final = {
    "g4dn": {"xlarge": 1, "2xlarge": 1, "4xlarge": 1, "8xlarge": 1, "12xlarge": 4, "16xlarge": 1},
    "g5": {
        "xlarge": 1,
        "2xlarge": 1,
        "4xlarge": 1,
        "8xlarge": 1,
        "12xlarge": 4,
        "16xlarge": 1,
        "24xlarge": 4,
        "48xlarge": 8,
    },
    "g6": {
        "xlarge": 1,
        "2xlarge": 1,
        "4xlarge": 1,
        "8xlarge": 1,
        "12xlarge": 4,
        "16xlarge": 1,
        "24xlarge": 4,
        "48xlarge": 8,
    },
}
"""GPUs per size; vCPU and memory of these families are those of the general-purpose sizes."""


class InstanceTypeError(ValueError):
    """An instance type the lab does not know the size of."""


def capacity_of(instance_type: str) -> tuple[int, int, int]:
    """vCPU, GiB and GPUs; InstanceTypeError for a type outside the table."""
    family, _, size = instance_type.partition(".")
    gpus = _GPUS.get(family)
    known = size in _SIZES and (family in _GENERAL or (gpus is not None and size in gpus))
    if not known:
        raise InstanceTypeError(
            f"instance type {instance_type!r} is not in the lab's table; use a size of one of the families"
            f" {', '.join((*_GENERAL, *_GPUS))}"
        )
    return (*_SIZES[size], gpus[size] if gpus else 0)


@dataclass(frozen=True)
class Group:
    """One node group as it is wanted."""

    cluster: str
    name: str
    wanted: int
    instance_type: str
    labels: dict[str, str]
    taints: tuple[dict[str, str], ...]
    zones: tuple[str, ...]

    def shape(self, index: int) -> Shape:
        """What its node number `index` is."""
        cpu, memory_gib, gpu_count = capacity_of(self.instance_type)
        zone = self.zones[index % len(self.zones)] if self.zones else ""
        return Shape(
            cpu=str(cpu),
            memory=f"{memory_gib}Gi",
            gpu_count=gpu_count,
            instance_type=self.instance_type,
            provider_id=f"aws:///{zone}/i-{self.cluster}-{self.name}-{index}",
            zone=zone,
            labels={**self.labels, GROUP_LABEL: self.name, CLUSTER_LABEL: self.cluster},
            taints=self.taints,
        )

    def node_names(self) -> list[str]:
        """Names of the nodes it wants."""
        return [f"{self.cluster}-{self.name}-{index}" for index in range(1, self.wanted + 1)]


def groups_of(client: EKSClient, site: str) -> list[Group]:
    """The node groups of every cluster tagged as this site's."""
    found = []
    for cluster in client.list_clusters()["clusters"]:
        if client.describe_cluster(name=cluster)["cluster"].get("tags", {}).get(SITE_TAG) != site:
            continue
        for name in client.list_nodegroups(clusterName=cluster)["nodegroups"]:
            group: Any = client.describe_nodegroup(clusterName=cluster, nodegroupName=name)["nodegroup"]
            if group.get("status") == "DELETING":
                continue
            taints = [
                {
                    "key": each["key"],
                    "value": each.get("value") or "",
                    "effect": EFFECTS.get(each["effect"], each["effect"]),
                }
                for each in group.get("taints") or []
            ]
            found.append(
                Group(
                    cluster=cluster,
                    name=name,
                    wanted=int((group.get("scalingConfig") or {}).get("desiredSize") or 0),
                    instance_type=(group.get("instanceTypes") or ["t3.medium"])[0],
                    labels=dict(group.get("labels") or {}),
                    taints=tuple(taints),
                    zones=(),
                )
            )
    return found


class NodeGroupPoller:
    """Keeps the site's nodes as many as its node groups ask for; a silent AWS API changes nothing."""

    def __init__(self, store: Store, addresses: SiteAddresses, aws_url: str) -> None:
        self._store = store
        self._addresses = addresses
        self._aws_url = aws_url
        self._clients: dict[str, EKSClient] = {}
        self._region = ""
        self._said: dict[str, str] = {}
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._version = ""
        self._known: list[Group] = []
        self._pause = POLL_SECONDS

    async def run(self) -> None:
        """Follow the AWS API until cancelled; it offers no watch, so it is asked now and then."""
        while True:
            try:
                self.apply(await asyncio.to_thread(self.look))
            except (BotoCoreError, ClientError, OSError, ApiError) as error:
                self._say("", str(error))
            await asyncio.sleep(self._pause)

    def look(self) -> list[Group]:
        """The groups there are; read anew when something has been written, less often while there is no cluster."""
        with self._opener.open(f"{self._aws_url}/tandem/version", timeout=2) as answer:
            version = answer.read().decode()
        if version != self._version:
            self._known = self._groups()
            self._version = version
            self._pause = POLL_SECONDS if self._known else min(self._pause * 2, SEARCH_LIMIT_SECONDS)
        return self._known

    def apply(self, groups: list[Group]) -> None:
        """Register the nodes that are wanted, take the next step of the end of those that are not."""
        wanted = {name for group in groups for name in group.node_names()}
        for group in groups:
            try:
                for index, name in enumerate(group.node_names(), start=1):
                    register(self._store, self._addresses, name, group.shape(index))
            except (ApiError, InstanceTypeError, NoAddressError) as error:
                self._say(f"{group.cluster}/{group.name}", str(error))
        for node in self._store.list(NODE):
            if GROUP_LABEL in labels_of(node) and name_of(node) not in wanted:
                retire(self._store, name_of(node))

    def _groups(self) -> list[Group]:
        """Those of the region the cluster was found in; every region is looked through while there is none."""
        if self._region and (groups := groups_of(self._client(self._region), self._addresses.name)):
            return groups
        for region in boto3.session.Session().get_available_regions("eks"):
            if groups := groups_of(self._client(region), self._addresses.name):
                self._region = region
                return groups
        return []

    def _client(self, region: str) -> EKSClient:
        if region not in self._clients:
            self._clients[region] = boto3.client(
                "eks",
                region_name=region,
                endpoint_url=self._aws_url,
                aws_access_key_id="lab",
                aws_secret_access_key="lab",  # noqa: S106 -- the lab's API asks nobody who they are
                config=Config(connect_timeout=2, read_timeout=5, retries={"max_attempts": 1}),
            )
        return self._clients[region]

    def _say(self, group: str, trouble: str) -> None:
        if trouble != self._said.get(group):  # once per trouble, not once per turn
            log.warning("node groups of site %s: %s", self._addresses.name, f"{group}: {trouble}" if group else trouble)
            self._said[group] = trouble
