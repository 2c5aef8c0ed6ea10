"""EKS: clusters whose endpoint is a site's Kubernetes API."""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any, ClassVar, Final

from botocore.exceptions import ClientError

from lab.providers.aws.cloud import MARKER_TAG, Cloud, code_of
from lab.providers.aws.resource import AwsType
from lab.providers.aws.rules import SITE_TAG, known, matches, one_of, site_rules
from lab.providers.errors import Failure, ProviderError
from lab.providers.naming import Naming

GONE: Final = {"ResourceNotFoundException"}
_CERTIFICATE_AUTHORITY: Final = base64.b64encode(b"the lab's Kubernetes APIs speak plain HTTP\n").decode()
_LOG_TYPES: Final = ("api", "audit", "authenticator", "controllerManager", "scheduler")
_NETWORK: Final = (
    "subnetIds",
    "securityGroupIds",
    "endpointPrivateAccess",
    "endpointPublicAccess",
    "publicAccessCidrs",
)


class Cluster(AwsType):
    """A cluster; its tag tandem.io/site says which site of the lab it is."""

    type_name = "aws:eks/cluster:Cluster"
    naming = Naming(longest=100)
    defaults: ClassVar = {"bootstrapSelfManagedAddons": True}
    replace_on = (
        "name",
        "roleArn",
        "bootstrapSelfManagedAddons",
        "encryptionConfig",
        "kubernetesNetworkConfig.serviceIpv4Cidr",
        "kubernetesNetworkConfig.ipFamily",
        "accessConfig.bootstrapClusterCreatorAdminPermissions",
        "outpostConfig",
        "region",
    )
    in_place = (
        *(f"vpcConfig.{name}" for name in _NETWORK),
        "deletionProtection",
        "enabledClusterLogTypes",
        "forceUpdateVersion",
        "version",
    )
    lasting = (*(f"vpcConfig.{name}" for name in _NETWORK), "version")
    unordered = frozenset({"enabledClusterLogTypes"})
    blank: ClassVar = {
        "clusterId": "",
        "computeConfig": {},
        "controlPlaneScalingConfig": {"tier": "standard"},
        "deletionProtection": False,
        "kubeApiServerConfig": {},
        "kubeControllerManagerConfig": {},
        "kubeSchedulerConfig": {},
        "storageConfig": {},
        "upgradePolicy": {"supportType": "EXTENDED"},
    }

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from matches(
            inputs, "name", r"[0-9A-Za-z][A-Za-z0-9_-]{0,99}", "cluster names have 1 to 100 such characters"
        )
        yield from matches(inputs, "version", r"1\.\d{2}", "versions look like 1.34")
        yield from site_rules(cloud, inputs, required=True)
        network = inputs.get("vpcConfig")
        subnets = network.get("subnetIds") if isinstance(network, dict) else None
        if isinstance(subnets, list) and len(subnets) < 2:
            yield Failure("vpcConfig.subnetIds", f"vpcConfig.subnetIds is {subnets}; EKS needs two zones: add a subnet")
        support = (inputs.get("upgradePolicy") or {}) if isinstance(inputs.get("upgradePolicy"), dict) else {}
        for failure in one_of(support, "supportType", "EXTENDED", "STANDARD"):
            yield Failure("upgradePolicy.supportType", failure.reason)
        logs = inputs.get("enabledClusterLogTypes")
        for kind in logs if isinstance(logs, list) else []:
            if known(kind) and kind not in _LOG_TYPES:
                reason = f"enabledClusterLogTypes has {kind!r}; allowed are {', '.join(_LOG_TYPES)}: choose among them"
                yield Failure("enabledClusterLogTypes", reason)

    def canonical(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Support that is named is the one a cluster has that names none; no other does anything here."""
        found = super().canonical(inputs)
        return {**found, "upgradePolicy": found.get("upgradePolicy") or self.blank["upgradePolicy"]}

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        arguments: dict[str, Any] = {
            "name": inputs["name"],
            "roleArn": inputs["roleArn"],
            "resourcesVpcConfig": _network(inputs),
            "tags": tags,
        }
        if inputs.get("version"):
            arguments["version"] = inputs["version"]
        if inputs.get("enabledClusterLogTypes"):
            arguments["logging"] = _logging(inputs)
        encryption = inputs.get("encryptionConfig")
        if encryption:
            provider = {"keyArn": encryption["provider"]["keyArn"]}
            arguments["encryptionConfig"] = [{"resources": encryption["resources"], "provider": provider}]
        name: str = cloud.client("eks").create_cluster(**arguments)["cluster"]["name"]
        return name

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        found = cluster_named(cloud, identity)
        if found is None:
            return None
        tags = dict(found.get("tags") or {})
        site = cloud.topology.sites.get(tags.get(SITE_TAG, ""))
        if site is None:
            raise ProviderError(
                f"cluster {identity} has the tag {SITE_TAG}={tags.get(SITE_TAG)!r}; the lab has the sites"
                f" {', '.join(sorted(cloud.topology.sites))}: tag it with one of them"
            )
        given = inputs.get("vpcConfig") or {}
        network = found.get("resourcesVpcConfig") or {}
        access = {"authenticationMode": "API_AND_CONFIG_MAP", "bootstrapClusterCreatorAdminPermissions": True}
        service = (found.get("kubernetesNetworkConfig") or {}).get("serviceIpv4Cidr") or "172.20.0.0/16"
        addresses = {"serviceIpv4Cidr": service, "ipFamily": "ipv4", "serviceIpv6Cidr": ""}
        return {
            "accessConfig": {**access, **(inputs.get("accessConfig") or {})},
            "arn": found["arn"],
            "certificateAuthority": {"data": _CERTIFICATE_AUTHORITY},
            "certificateAuthorities": [{"data": _CERTIFICATE_AUTHORITY}],
            "createdAt": _text(found.get("createdAt")),
            "endpoint": site.api_url,
            "identities": [{"oidcs": [{"issuer": (found.get("identity") or {}).get("oidc", {}).get("issuer", "")}]}],
            "kubernetesNetworkConfig": {**addresses, **(inputs.get("kubernetesNetworkConfig") or {})},
            "name": found["name"],
            "platformVersion": found.get("platformVersion") or "eks.1",
            "roleArn": found["roleArn"],
            "status": found["status"],
            "tagsAll": tags,
            "version": found.get("version") or "",
            "vpcConfig": {
                "endpointPrivateAccess": False,
                "endpointPublicAccess": True,
                "publicAccessCidrs": ["0.0.0.0/0"],
                "securityGroupIds": [],
                **given,
                "clusterSecurityGroupId": network.get("clusterSecurityGroupId") or "",
                "vpcId": network.get("vpcId") or self._vpc(cloud, given.get("subnetIds") or []),
            },
        }

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        client = cloud.client("eks")
        version = str(new.get("version") or "")
        # Not by what was declared before: an `up` may have died after the upgrade.
        if version and version != (cluster_named(cloud, identity) or {}).get("version"):
            client.update_cluster_version(name=identity, version=version, force=bool(new.get("forceUpdateVersion")))
        if old.get("vpcConfig") != new.get("vpcConfig"):
            client.update_cluster_config(name=identity, resourcesVpcConfig=_network(new))
        if old.get("enabledClusterLogTypes") != new.get("enabledClusterLogTypes"):
            client.update_cluster_config(name=identity, logging=_logging(new))

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        if cluster_named(cloud, identity) is not None:
            if state.get("deletionProtection"):
                raise ProviderError(f"{identity} is protected from deletion; set deletionProtection to false first")
            cloud.client("eks").delete_cluster(name=identity)

    def marked(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
        for name in cloud.client("eks").list_clusters()["clusters"]:
            yield name, (cluster_named(cloud, name) or {}).get("tags", {}).get(MARKER_TAG)

    def tag(self, cloud: Cloud, identity: str, tags: dict[str, str], removed: list[str]) -> None:
        client = cloud.client("eks")
        arn = (cluster_named(cloud, identity) or {}).get("arn", "")
        if tags:
            client.tag_resource(resourceArn=arn, tags=tags)
        if removed:
            client.untag_resource(resourceArn=arn, tagKeys=removed)

    def _vpc(self, cloud: Cloud, subnets: list[str]) -> str:
        if not subnets:
            return ""
        found = cloud.client("ec2").describe_subnets(SubnetIds=subnets[:1])["Subnets"]
        return str(found[0]["VpcId"]) if found else ""


def _network(inputs: dict[str, Any]) -> dict[str, Any]:
    given = inputs["vpcConfig"]
    return {key: given[key] for key in _NETWORK if given.get(key) is not None}


def _logging(inputs: dict[str, Any]) -> dict[str, Any]:
    wanted = inputs.get("enabledClusterLogTypes") or []
    unwanted = [kind for kind in _LOG_TYPES if kind not in wanted]
    on, off = {"types": wanted, "enabled": True}, {"types": unwanted, "enabled": False}
    return {"clusterLogging": [entry for entry in (on, off) if entry["types"]]}


def cluster_named(cloud: Cloud, name: str) -> dict[str, Any] | None:
    """What the API says about a cluster, or None when there is none."""
    try:
        return dict(cloud.client("eks").describe_cluster(name=name)["cluster"])
    except ClientError as error:
        if code_of(error) in GONE:
            return None
        raise


def _text(moment: Any) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if hasattr(moment, "strftime") else str(moment or "")


TYPES: Final = (Cluster,)
