"""Names, labels and tags, each from its arguments alone."""

from __future__ import annotations

from typing import Final

PROJECT: Final = "tandem"
SITE_KEY: Final = "tandem.io/site"
"""Label and tag that says which site a thing belongs to."""
ROLE_KEY: Final = "tandem.io/role"
"""Tag that says what a thing is for, where its type does not."""
NAME_KEY: Final = "app.kubernetes.io/name"
PROJECT_KEY: Final = "app.kubernetes.io/part-of"

DNS_LABEL_LIMIT: Final = 63
"""RFC 1035; also the limit of every Kubernetes name that becomes a host name."""
DNS_NAME_LIMIT: Final = 253
SITE_LIMIT: Final = 16
"""Leaves room for a role and an automatic suffix in a load balancer's 32 characters."""
POOL_LIMIT: Final = 20
"""Of a node pool's name: with site and automatic suffix it stays within a node group's 63 characters."""
EKS_NAME_LIMIT: Final = 100
"""https://docs.aws.amazon.com/eks/latest/APIReference/API_CreateCluster.html"""


def selector(name: str) -> dict[str, str]:
    """Labels that find the pods of one component; never change once deployed, a selector is immutable."""
    return {NAME_KEY: name, PROJECT_KEY: PROJECT}


def labels(site: str, name: str) -> dict[str, str]:
    """Labels of everything that belongs to component `name` of `site`."""
    return {**selector(name), "app.kubernetes.io/managed-by": "pulumi", SITE_KEY: site}


def tags(site: str, role: str | None = None) -> dict[str, str]:
    """Tags of a cloud resource of `site`."""
    return {SITE_KEY: site} if role is None else {SITE_KEY: site, ROLE_KEY: role}


def site_host(site: str, service: str) -> str:
    """Host name that always means this one site of the service."""
    return f"{site}.{service}"


def declared_wins() -> dict[str, str]:
    """Annotation of what others change for a while: a drill that scales a Deployment leaves its name on the field.

    Server-side apply would refuse the next change of that field; with this the declaration takes it back.
    https://www.pulumi.com/registry/packages/kubernetes/how-to-guides/managing-resources-with-server-side-apply/
    """
    return {"pulumi.com/patchForce": "true"}
