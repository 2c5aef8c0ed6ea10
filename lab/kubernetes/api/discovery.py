"""What the API server says about itself: version, groups, resources."""

from __future__ import annotations

from typing import Any, Final

from lab.kubernetes.api.kinds import Kind, Kinds
from lab.kubernetes.api.schema import VERSION

_READ: Final = ("get", "list", "watch")
_WRITE: Final = ("create", "delete", "deletecollection", "patch", "update")
_SUBRESOURCE_VERBS: Final = {
    "status": ["get", "patch", "update"],
    "scale": ["get", "patch", "update"],
    "log": ["get"],
    "binding": ["create"],
    "eviction": ["create"],
    "proxy": ["create", "delete", "get", "patch", "update"],
}
_SUBRESOURCE_KINDS: Final = {
    "scale": {"group": "autoscaling", "version": "v1", "kind": "Scale"},
    "binding": {"kind": "Binding"},
    "eviction": {"group": "policy", "version": "v1", "kind": "Eviction"},
    "proxy": {"kind": "PodProxyOptions"},
}


def version() -> dict[str, str]:
    """The answer of /version."""
    major, minor, _ = VERSION.split(".")
    return {
        "major": major,
        "minor": minor,
        "gitVersion": f"v{VERSION}",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": "linux/amd64",
    }


def core_versions(address: str) -> dict[str, Any]:
    """The answer of /api."""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def groups(kinds: Kinds) -> dict[str, Any]:
    """The answer of /apis."""
    names = sorted({kind.group for kind in kinds if kind.group})
    found = [entry for entry in (group(kinds, name) for name in names) if entry]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": found}


def group(kinds: Kinds, name: str) -> dict[str, Any] | None:
    """The answer of /apis/<group>; None when it is not served."""
    versions = sorted({kind.version for kind in kinds if kind.group == name and name})
    listed = [{"groupVersion": f"{name}/{entry}", "version": entry} for entry in versions]
    if not listed:
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": listed, "preferredVersion": listed[0]}


def resources(kinds: Kinds, group_name: str, group_version: str) -> dict[str, Any] | None:
    """The answer of /api/v1 and /apis/<group>/<version>; None when it is not served."""
    served = [kind for kind in kinds if (kind.group, kind.version) == (group_name, group_version)]
    if not served:
        return None
    listed = [entry for kind in served for entry in _entries(kind)]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": served[0].api_version,
        "resources": listed,
    }


def _entries(kind: Kind) -> list[dict[str, Any]]:
    common = {"namespaced": kind.namespaced, "kind": kind.kind}
    main: dict[str, Any] = {
        "name": kind.plural,
        "singularName": kind.singular,
        **common,
        "verbs": sorted([*_READ, *(() if kind.read_only else _WRITE)]),
    }
    if kind.short_names:
        main["shortNames"] = list(kind.short_names)
    subresources = [
        {
            "name": f"{kind.plural}/{name}",
            "singularName": "",
            **common,
            **_SUBRESOURCE_KINDS.get(name, {}),
            "verbs": _SUBRESOURCE_VERBS[name],
        }
        for name in sorted(kind.subresources)
    ]
    return [main, *subresources]


def openapi_v2() -> dict[str, Any]:
    """A description without content, for clients that insist on one."""
    return {"swagger": "2.0", "info": {"title": "Kubernetes", "version": f"v{VERSION}"}, "paths": {}, "definitions": {}}
