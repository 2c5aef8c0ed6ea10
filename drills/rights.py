"""Whether an undo could do its work from where it stands: asked before it says that it stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from kubernetes.client.exceptions import ApiException

from drills.access import API_ERRORS, API_TIMEOUT_SECONDS, NOT_FOUND, Cluster
from drills.drill import Action, Prior


@dataclass(frozen=True)
class Right:
    """One verb on one kind of object of a namespace, as Kubernetes' RBAC names it."""

    group: str
    resource: str
    """With its subresource, if one is meant: `deployments/scale`."""
    namespace: str
    verb: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{f'.{self.group}' if self.group else ''} in {self.namespace}"


@runtime_checkable
class NeedsRights(Protocol):
    """An action whose undo asks a Kubernetes API."""

    @property
    def rights(self) -> list[Right]:
        """What its undo and its residue ask of the API."""
        ...


@runtime_checkable
class Tried(Protocol):
    """An action whose undo can be tried on something that means nothing."""

    async def try_undo(self, name: str) -> None:
        """Write and take away an object of that name beside the real one. Raises DrillError."""
        ...


def rights(group: str, resource: str, namespace: str, *verbs: str) -> list[Right]:
    """Several verbs on the same."""
    return [Right(group, resource, namespace, verb) for verb in verbs]


def allowed(cluster: Cluster, right: Right) -> bool | None:
    """Whether whoever asks has the right; None where the API does not know the question. Raises API_ERRORS."""
    resource, _, subresource = right.resource.partition("/")
    attributes = {"group": right.group, "resource": resource, "namespace": right.namespace, "verb": right.verb}
    if subresource:
        attributes["subresource"] = subresource
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    create = cluster.authorization.create_self_subject_access_review
    try:
        answer = create(review, _request_timeout=API_TIMEOUT_SECONDS)
    except ApiException as error:
        if error.status == NOT_FOUND:
            return None
        raise
    return bool(answer.status.allowed)


async def missing(
    cluster: Cluster, name: str, actions: list[tuple[Action, Prior]], say: Callable[[str], None]
) -> list[str]:
    """Why the undo of these could not be done from here; changes nothing that means anything."""
    found: list[str] = []
    for action, prior in actions:
        try:
            await action.residue(prior)
            if isinstance(action, Tried):
                await action.try_undo(name)
        except Exception as error:  # noqa: BLE001  whatever it is, the undo would meet it too
            found.append(f"{action.name}: {type(error).__name__}: {error}")
    needed = dict.fromkeys(right for action, _ in actions if isinstance(action, NeedsRights) for right in action.rights)
    for right in needed:
        try:
            answer = allowed(cluster, right)
        except API_ERRORS as error:
            found.append(f"cannot ask for the right to {right}: {type(error).__name__}: {str(error)[:200]}")
            continue
        if answer is None:
            say("this API does not tell who may do what: rights are not looked at")
            break
        if not answer:
            found.append(f"no right to {right}; bring the site's account up to date: tandem up")
    return found
