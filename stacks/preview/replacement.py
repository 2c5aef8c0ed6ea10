"""Which changes replace a resource, and how that is known.

Three answers: REPLACE with the rule it rests on, UPDATE with its rule, MAY_REPLACE where nobody here knows and the
provider decides. For AWS the rules are those of the provider's resources (`aws_arguments.py`, `aws_conditions.py`), for
Kubernetes those of its API server and of Pulumi's provider (https://www.pulumi.com/registry/packages/kubernetes/).
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from stacks.preview.aws_arguments import ANY, AWS, Known
from stacks.preview.aws_conditions import condition
from stacks.preview.effect import Effect, Verdict

PROVIDER_DECIDES: Final = "nothing here knows this argument: the provider decides"
AWS_RULE: Final = "the AWS provider cannot change it in place"
AWS_UPDATE: Final = "the AWS provider changes it in place"
DOCUMENTED: Final = re.compile(
    r"[^.]*\b(?:forces? (?:a )?(?:new|replacement|re-?creation|the creation)|new resource to be created)\b[^.]*",
    re.IGNORECASE,
)

API_RULE: Final = "the Kubernetes API keeps it as it was created"
POD_RULE: Final = "Pulumi makes a new one under a new name, so that pods that read it roll"
KUBERNETES_ALWAYS: Final = ("apiVersion", "kind", "metadata.name", "metadata.namespace")
KUBERNETES: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    "ConfigMap": (("data", "binaryData", "immutable"), POD_RULE),
    "Secret": (("data", "stringData", "type", "immutable"), POD_RULE),
    "DaemonSet": (("spec.selector",), API_RULE),
    "Deployment": (("spec.selector",), API_RULE),
    "StatefulSet": (
        ("spec.selector", "spec.serviceName", "spec.podManagementPolicy", "spec.volumeClaimTemplates"), API_RULE
    ),
    "Job": (("spec.completionMode", "spec.completions", "spec.selector", "spec.template"), API_RULE),
    "PersistentVolumeClaim": (
        ("spec.accessModes", "spec.selector", "spec.storageClassName", "spec.volumeMode", "spec.volumeName"), API_RULE
    ),
    "Service": (("spec.clusterIP", "spec.type"), API_RULE),
    "StorageClass": (("provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"), API_RULE),
    "RoleBinding": (("roleRef",), API_RULE),
    "ClusterRoleBinding": (("roleRef",), API_RULE),
    "PriorityClass": (("value", "preemptionPolicy"), API_RULE),
    "MachineDeployment": (("spec.clusterName", "spec.selector"), "Cluster API keeps it as it was created"),
    "MachineHealthCheck": (("spec.clusterName",), "Cluster API keeps it as it was created"),
    "TargetGroupBinding": (
        ("spec.targetGroupARN", "spec.targetType", "spec.ipAddressType"), "the controller keeps it as it was created"
    ),
}  # fmt: skip
RELEASE_FIXED: Final = ("name", "namespace")


def verdict(kind: str, path: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Verdict:
    """What a change of the property at `path`, between these inputs, does to a resource of this type token."""
    package = kind.partition(":")[0]
    if kind.startswith("pulumi:providers:"):
        return _provider(kind, path)
    if package == "aws":
        values = condition(kind, path)
        return values(old, new) if values else _aws(kind, path)
    if package == "kubernetes":
        return _kubernetes(kind.rpartition(":")[2], path)
    return Verdict(Effect.MAY_REPLACE, PROVIDER_DECIDES)


def _provider(kind: str, path: str) -> Verdict:
    if kind.endswith(":kubernetes") and path.startswith("kubeconfig"):
        return Verdict(Effect.MAY_REPLACE, "another cluster behind it replaces everything that goes to it")
    if kind.endswith(":aws") and path.startswith(("region", "accessKey", "secretKey", "profile", "assumeRoles")):
        return Verdict(Effect.MAY_REPLACE, "another account or region behind it has none of its resources")
    return Verdict(Effect.UPDATE, "a setting of the provider")


def _aws(kind: str, path: str) -> Verdict:
    known = AWS.get(kind, Known())
    if _under(path, known.fixed):
        return Verdict(Effect.REPLACE, AWS_RULE)
    if _under(path, (*ANY, *known.changeable)):
        return Verdict(Effect.UPDATE, AWS_UPDATE)
    said = _documented(kind, path.partition(".")[0].partition("[")[0])
    if said:
        return Verdict(Effect.REPLACE, f"the provider's documentation says: {said}")
    return Verdict(Effect.MAY_REPLACE, PROVIDER_DECIDES)


def _kubernetes(kind: str, path: str) -> Verdict:
    if kind == "Release":
        fixed = _under(path, RELEASE_FIXED)
        return Verdict(
            Effect.REPLACE if fixed else Effect.UPDATE,
            "Helm knows a release by it" if fixed else "Helm upgrades the release",
        )
    paths, rule = KUBERNETES.get(kind, ((), API_RULE))
    if _under(path, (*KUBERNETES_ALWAYS, *paths)):
        return Verdict(Effect.REPLACE, rule if _under(path, paths) else API_RULE)
    return Verdict(Effect.UPDATE, "server-side apply")


def _under(path: str, roots: tuple[str, ...]) -> bool:
    return any(path == root or path.startswith((f"{root}.", f"{root}[")) for root in roots)


@cache
def _documented(kind: str, argument: str) -> str:
    """The sentence of the installed SDK that says a change of the argument makes a new resource; empty for none."""
    _, module, name = kind.split(":")
    try:
        found: Any = importlib.import_module(f"pulumi_aws.{module.partition('/')[0]}")
    except ImportError:
        return ""
    attribute = re.sub(r"(?<!^)(?=[A-Z])", "_", argument).lower()
    for holder in (getattr(found, f"{name}Args", None), getattr(found, name, None)):
        text = getattr(getattr(holder, attribute, None), "__doc__", None)
        if text and (said := DOCUMENTED.search(" ".join(text.split()))):
            return said.group(0).strip()
    return ""
