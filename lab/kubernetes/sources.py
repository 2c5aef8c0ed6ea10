"""What a pod's containers ask the API for, read from the site's store."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lab.kubernetes.api.errors import NotFound
from lab.kubernetes.api.kinds import CONFIG_MAP, SECRET, SERVICE
from lab.kubernetes.api.store import Store
from lab.topology import SiteAddresses


@dataclass(frozen=True)
class StoreSources:
    """ConfigMaps, Secrets and Services as they are now."""

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
