"""The ServiceAccount `default` that every namespace has."""

from __future__ import annotations

from lab.kubernetes.api.errors import NotFound
from lab.kubernetes.api.kinds import NAMESPACE, SERVICE_ACCOUNT
from lab.kubernetes.api.objects import terminating
from lab.kubernetes.controller import Controller, Key


class ServiceAccountController(Controller):
    """Makes it for every namespace that has none."""

    primary = NAMESPACE

    def reconcile(self, key: Key) -> float | None:
        """Create it where it is missing."""
        name = key[1]
        try:
            if terminating(self.store.get(NAMESPACE, None, name)):
                return None
        except NotFound:
            return None
        try:
            self.store.get(SERVICE_ACCOUNT, name, "default")
        except NotFound:
            self.store.create(SERVICE_ACCOUNT, {"metadata": {"name": "default", "namespace": name}})
        return None
