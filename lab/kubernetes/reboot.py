"""What a pod loses when the machine it stands on boots."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lab.kubernetes.api.objects import Object, name_of
from lab.kubernetes.volumes import shared_memory_of

_ON_DISK: Final = ("persistentVolumeClaim", "hostPath")


def survives(volume: Mapping[str, Any]) -> bool:
    """Whether a volume's content outlives a boot: it lies on the machine's disk and is not made anew."""
    if "emptyDir" in volume:
        return not (volume["emptyDir"] or {}).get("medium")
    return any(source in volume for source in _ON_DISK)


def forget(pod: Object, volumes: Path, other_pods: Sequence[str]) -> None:
    """Remove what was in memory, and what a kubelet makes anew: ConfigMaps, Secrets and the like."""
    for volume in pod["spec"].get("volumes") or []:
        if not survives(volume):
            shutil.rmtree(volumes / str(volume["name"]), ignore_errors=True)
    for segment in shared_memory_of(name_of(pod), other_pods):
        with contextlib.suppress(OSError):
            segment.unlink()
