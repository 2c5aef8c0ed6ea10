"""How model servers are replaced where GPUs are scarce: with one more first, or with one less. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from infra.checks import SettingError

AUTO: Final = "auto"
SURGE: Final = "surge"
REPLACE: Final = "replace"
WAYS: Final = (AUTO, SURGE, REPLACE)


@dataclass(frozen=True)
class Rolling:
    """A Deployment's rolling update."""

    max_unavailable: int
    max_surge: int


ONE_MORE: Final = Rolling(max_unavailable=0, max_surge=1)
"""Nobody leaves before a successor is ready: needs room for one pod more."""
ONE_LESS: Final = Rolling(max_unavailable=1, max_surge=0)
"""One leaves first: needs no room, and somebody else has to answer meanwhile."""


def rolling(
    way: str, *, replicas: int, gpus_per_pod: int, gpu_quota: int, firm_gpus: int, most_replicas: int = 0
) -> Rolling:
    """The rolling update that comes to an end with the GPUs there are; raises SettingError where none does.

    With maxUnavailable 0 on full GPUs the successor stays Pending and nobody leaves: the rollout hangs until its
    deadline. Room is counted on what the site has for sure, not on what an autoscaler may bring.
    """
    needed = replicas * gpus_per_pod
    most = max(replicas, most_replicas) * gpus_per_pod
    if most > gpu_quota:
        what = f"{max(replicas, most_replicas)} Triton pods x {gpus_per_pod} GPUs"
        raise SettingError(
            f"{what} are {most} GPUs; the namespace may request {gpu_quota} (gpu_quota of the platform), so pods would"
            f" never be made: raise gpu_quota to {most}, or ask for fewer pods"
        )
    room = min(gpu_quota, firm_gpus) - needed
    has_room = not gpus_per_pod or room >= gpus_per_pod
    if way == SURGE and not has_room:
        raise SettingError(
            f"triton_rollout is {SURGE}; {replicas} Triton pods x {gpus_per_pod} GPUs and {gpus_per_pod} for one more"
            f" are {needed + gpus_per_pod} GPUs, the site has {min(gpu_quota, firm_gpus)} for sure (the smaller of"
            f" gpu_quota {gpu_quota} and firm GPUs {firm_gpus}), and the rollout would hang: bring"
            f" {gpus_per_pod - room} GPUs more, or set triton_rollout to {REPLACE}"
        )
    if way == SURGE or (way == AUTO and has_room):
        return ONE_MORE
    if way == AUTO and replicas == 1:
        raise SettingError(
            f"triton_replicas is 1 on {min(gpu_quota, firm_gpus)} GPUs the site has for sure, with {gpus_per_pod} a"
            " pod; there is no GPU for a successor, and without the only pod the site answers nobody: raise"
            f" triton_replicas or the GPUs, or accept a dark site at each rollout with triton_rollout: {REPLACE}"
        )
    return ONE_LESS
