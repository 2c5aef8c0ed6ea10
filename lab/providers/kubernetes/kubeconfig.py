"""Where a kubeconfig points: its current context's server, namespace and token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from lab.providers.errors import ConfigurationError
from lab.providers.loopback import require_loopback


@dataclass(frozen=True, kw_only=True)
class Target:
    """A Kubernetes API and how to speak to it."""

    server: str
    namespace: str
    token: str


def parse(text: Any, *, context: str | None = None, namespace: str | None = None) -> Target:
    """Raise ConfigurationError for a kubeconfig that cannot be read, is not loopback or needs what the lab has not."""
    given = _document(text)
    name = context or given.get("current-context") or ""
    chosen = _named(given, "contexts", name, "context") if name or given.get("contexts") else {}
    cluster = _named(given, "clusters", chosen.get("cluster", ""), "cluster")
    server = cluster.get("server")
    if not isinstance(server, str):
        raise ConfigurationError(
            "the kubeconfig's cluster has no server; it needs a URL: add clusters[].cluster.server"
        )
    require_loopback(server, "the kubernetes provider's server")
    user = _named(given, "users", chosen["user"], "user") if chosen.get("user") else {}
    unsupported = sorted({"exec", "auth-provider", "client-certificate", "client-certificate-data"} & set(user))
    if unsupported:
        raise ConfigurationError(
            f"the kubeconfig's user has {', '.join(unsupported)}; the lab's API servers take tokens or nothing:"
            " leave it out for env lab"
        )
    place = namespace or chosen.get("namespace") or "default"
    return Target(server=server.rstrip("/"), namespace=place, token=str(user.get("token") or ""))


def _document(text: Any) -> Mapping[str, Any]:
    if isinstance(text, Mapping):
        return text
    try:
        parsed = yaml.safe_load(text) if isinstance(text, str) else None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"the kubeconfig is neither JSON nor YAML: {error}; pass its contents") from error
    if not isinstance(parsed, Mapping):
        raise ConfigurationError(
            "the kubernetes provider has no kubeconfig; the lab reads no files and no environment:"
            " pass the contents of one as `kubeconfig`"
        )
    return parsed


def _named(given: Mapping[str, Any], listing: str, name: str, key: str) -> Mapping[str, Any]:
    entries = [entry for entry in given.get(listing) or [] if isinstance(entry, Mapping)]
    for entry in entries:
        if entry.get("name") == name or (not name and len(entries) == 1):
            found = entry.get(key)
            return found if isinstance(found, Mapping) else {}
    raise ConfigurationError(
        f"the kubeconfig names no {key} {name!r} under {listing}; add it or correct current-context"
    )
