"""A Kubernetes API over plain HTTP: discovery, server-side apply, get, list, delete, logs."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import httpx

from lab.providers.errors import NotInLabError, ProviderError
from lab.providers.kubernetes.kubeconfig import Target

FIELD_MANAGER: Final = "pulumi-kubernetes"
TIMEOUT_SECONDS: Final = 10.0


class UnreachableError(ProviderError):
    """The API server does not answer."""


class RefusedError(ProviderError):
    """The API server said no."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Resource:
    """How objects of a kind are reached."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool

    def path(self, namespace: str | None, name: str = "") -> str:
        """The object's path, or the collection's."""
        root = "/api" if "/" not in self.api_version else "/apis"
        place = f"/namespaces/{quote(namespace or 'default')}" if self.namespaced else ""
        return f"{root}/{self.api_version}{place}/{self.plural}" + (f"/{quote(name)}" if name else "")


class Api:
    """One API server; may be used by several threads."""

    def __init__(self, target: Target, provider: str) -> None:
        self.target = target
        self._provider = provider
        headers = {"Accept": "application/json", "User-Agent": FIELD_MANAGER}
        if target.token:
            headers["Authorization"] = f"Bearer {target.token}"
        self._client = httpx.Client(
            base_url=target.server,
            headers=headers,
            timeout=TIMEOUT_SECONDS,
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0),  # nobody tells when an engine has gone: hold nothing open
        )
        self._resources: dict[tuple[str, str], Resource] = {}
        self._lock = threading.Lock()

    def resource(self, api_version: str, kind: str) -> Resource:
        """How a kind is reached; NotInLabError when the server does not have it."""
        with self._lock:
            known = self._resources.get((api_version, kind))
        if known is not None:
            return known
        root = "/api" if "/" not in api_version else "/apis"
        listed = self.request("GET", f"{root}/{api_version}", missing_ok=True) or {}
        for entry in listed.get("resources") or []:
            if "/" not in entry["name"]:
                found = Resource(api_version, entry["kind"], entry["name"], bool(entry["namespaced"]))
                with self._lock:
                    self._resources[api_version, entry["kind"]] = found
        with self._lock:
            known = self._resources.get((api_version, kind))
        if known is None:
            raise NotInLabError(
                f"the Kubernetes API at {self.target.server} has no kind {kind} in {api_version};"
                " correct apiVersion and kind, or leave the resource out for env lab"
            )
        return known

    def get(self, resource: Resource, namespace: str | None, name: str) -> dict[str, Any] | None:
        """The live object, or None."""
        return self.request("GET", resource.path(namespace, name), missing_ok=True)

    def list(
        self, api_version: str, kind: str, namespace: str | None, *, labels: str = "", fields: str = ""
    ) -> list[dict[str, Any]]:
        """Objects of a namespace by label and field selector."""
        query = {key: value for key, value in (("labelSelector", labels), ("fieldSelector", fields)) if value}
        found = self.request("GET", self.resource(api_version, kind).path(namespace), query=query) or {}
        return list(found.get("items") or [])

    def apply(
        self,
        resource: Resource,
        namespace: str | None,
        manifest: Mapping[str, Any],
        *,
        force: bool,
        dry_run: bool,
        manager: str = FIELD_MANAGER,
    ) -> dict[str, Any]:
        """Server-side apply; creates what is not there."""
        query = {"fieldManager": manager, "force": str(force).lower(), "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        path = resource.path(namespace, manifest["metadata"]["name"])
        headers = {"Content-Type": "application/apply-patch+yaml"}
        return self.request("PATCH", path, query=query, body=manifest, headers=headers) or {}

    def delete(self, resource: Resource, namespace: str | None, name: str, uid: str | None = None) -> None:
        """Begin the deletion; what is not there is fine."""
        options: dict[str, Any] = {"propagationPolicy": "Foreground"}
        if uid:
            options["preconditions"] = {"uid": uid}
        self.request("DELETE", resource.path(namespace, name), body=options, missing_ok=True)

    def log(self, namespace: str, pod: str, container: str, *, previous: bool, lines: int) -> str:
        """The last lines a container wrote; empty when there are none."""
        path = f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(pod)}/log"
        query = {"container": container, "tailLines": str(lines), "previous": str(previous).lower()}
        try:
            answer = self._client.get(path, params=query)
        except httpx.HTTPError:
            return ""
        return answer.text.strip() if answer.status_code == httpx.codes.OK else ""

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        missing_ok: bool = False,
    ) -> dict[str, Any] | None:
        """One request; None for 404 when that is fine."""
        content = None if body is None else json.dumps(body).encode()
        given = {"Content-Type": "application/json", **(headers or {})} if content else dict(headers or {})
        try:
            answer = self._client.request(method, path, params=query, content=content, headers=given)
        except httpx.HTTPError as error:
            raise UnreachableError(
                f"{self._provider}: the Kubernetes API at {self.target.server} does not answer"
                f" ({type(error).__name__}: {error}); is the site up?"
            ) from error
        if answer.status_code == httpx.codes.NOT_FOUND and missing_ok:
            return None
        if answer.is_success:
            parsed: dict[str, Any] = answer.json()
            return parsed
        raise _refusal(answer)


def _refusal(answer: httpx.Response) -> RefusedError:
    try:
        status = answer.json()
    except ValueError:
        status = {}
    message = str(status.get("message") or answer.text.strip() or answer.reason_phrase)
    return RefusedError(answer.status_code, str(status.get("reason") or ""), f"{answer.status_code} {message}")
