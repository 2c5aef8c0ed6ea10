"""What runs in a cluster: the pods of every kind of workload, as rules read them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final

from infra.policies.declared import UNKNOWN, Declared
from infra.policies.inputs import at, many, number

DEPLOYMENT: Final = "kubernetes:apps/v1:Deployment"
STATEFUL_SET: Final = "kubernetes:apps/v1:StatefulSet"
DAEMON_SET: Final = "kubernetes:apps/v1:DaemonSet"
JOB: Final = "kubernetes:batch/v1:Job"
CRON_JOB: Final = "kubernetes:batch/v1:CronJob"
POD: Final = "kubernetes:core/v1:Pod"
SERVERS: Final = (DEPLOYMENT, STATEFUL_SET)
"""Kinds whose pods answer requests for as long as they live."""
WORKLOADS: Final = (*SERVERS, DAEMON_SET, JOB, CRON_JOB, POD)
SITE: Final = "tandem.io/site"
GPU: Final = "gpu"
"""Part of every extended resource that means a GPU: nvidia.com/gpu, nvidia.com/mig-1g.10gb.gpu."""

_TEMPLATE: Final[Mapping[str, tuple[str, ...]]] = {
    CRON_JOB: ("spec", "jobTemplate", "spec", "template"),
    POD: (),
}


def template(workload: Declared) -> Any:
    """The pod template, metadata and spec; a pod is its own."""
    return at(workload.inputs, *_TEMPLATE.get(workload.type, ("spec", "template")))


def pod(workload: Declared) -> Any:
    """The spec of the workload's pods; UNKNOWN where not known."""
    return at(template(workload), "spec")


def containers(workload: Declared, *, init: bool = False) -> list[Any]:
    """The containers of the workload's pods, or those that run before them; one may be UNKNOWN."""
    return many(at(pod(workload), "initContainers" if init else "containers"))


def every_container(workload: Declared) -> list[Any]:
    """Both."""
    return containers(workload, init=True) + containers(workload)


def called(container: Any) -> str:
    """What a container is called in a message."""
    return f"container {at(container, 'name')}"


def words(container: Any) -> list[str]:
    """Command and arguments, as one list."""
    return [str(word) for word in many(at(container, "command")) + many(at(container, "args"))]


def variable(container: Any, name: str) -> Any:
    """The value of an environment variable; None where there is none."""
    for entry in many(at(container, "env")):
        if at(entry, "name") == name:
            return at(entry, "value")
    return None


def serves_model(container: Any) -> bool:
    """Whether it is a model server or a gateway in front of one."""
    return is_triton(container) or "serving.gateway" in words(container)


def is_triton(container: Any) -> bool:
    """Whether it is Triton."""
    return any(word.rpartition("/")[2] == "tritonserver" for word in words(container))


def option(container: Any, name: str) -> str | None:
    """The value of `--name=value` or `--name value` among its words; None where it is not given."""
    given = words(container)
    for index, word in enumerate(given):
        if word.startswith(f"--{name}="):
            return word.partition("=")[2]
        if word == f"--{name}" and index + 1 < len(given):
            return given[index + 1]
    return None


def options(container: Any, name: str) -> list[str]:
    """The same of an option that may be repeated."""
    given = words(container)
    return [after for word, after in pairwise(given) if word == f"--{name}"] + [
        word.partition("=")[2] for word in given if word.startswith(f"--{name}=")
    ]


def gpus(workload: Declared) -> float | None:
    """GPUs one pod asks for; None where that is not known yet."""
    total = 0.0
    for container in containers(workload):
        limits = at(container, "resources", "limits")
        if limits == UNKNOWN:
            return None
        for resource, amount in limits.items() if isinstance(limits, Mapping) else ():
            if GPU in resource:
                asked = number(amount)
                if asked is None:
                    return None
                total += asked
    return total


def selects(selector: Any, labels: Any) -> bool:
    """Whether a label selector finds these labels; an empty one finds all."""
    matching = at(selector, "matchLabels") or {}
    if at(selector, "matchExpressions") or not isinstance(labels, Mapping) or not isinstance(matching, Mapping):
        return False
    return all(labels.get(key) == value for key, value in matching.items())


def namespace(resource: Declared) -> Any:
    """Where it lives; UNKNOWN where another stack will say."""
    return at(resource.inputs, "metadata", "namespace")
