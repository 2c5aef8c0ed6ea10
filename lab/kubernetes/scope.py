"""What the containers of one pod share, and what one of them needs to run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from lab.kubernetes import images
from lab.kubernetes.api.objects import Object, name_of, namespace_of
from lab.kubernetes.environment import EnvironmentBuilder, Placement, Sources, expand
from lab.kubernetes.recorder import Recorder
from lab.kubernetes.volumes import Mounts
from lab.process import MARKER


@dataclass
class PodScope:
    """One pod, as its containers see it."""

    pod: Object
    folder: Path
    image_home: Path
    lab_home: Path
    placement: Placement
    sources: Sources
    session: aiohttp.ClientSession
    recorder: Recorder
    back_off_seconds: float
    changed: Callable[[], None]
    """Called when a container's status is no longer what it was."""
    volumes: Mapping[str, Path] = field(default_factory=dict)
    dark: bool = False
    """Whether its machine has no power: then nothing is done for the pod, told of it or ended."""

    @property
    def title(self) -> str:
        """`namespace/name`."""
        return f"{namespace_of(self.pod)}/{name_of(self.pod)}"

    @property
    def restart_policy(self) -> str:
        """The pod's."""
        return str(self.pod["spec"].get("restartPolicy") or "Always")

    @property
    def grace_seconds(self) -> float:
        """The pod's termination grace period."""
        return float(self.pod["spec"].get("terminationGracePeriodSeconds", 30))

    @property
    def temporary(self) -> Path:
        """Where its processes leave temporary files; gone with the pod."""
        return self.folder / "tmp"

    def log(self, container: str, restart: int) -> Path:
        """The log of one run."""
        return self.folder / "logs" / f"{container}.{restart}.log"


@dataclass(frozen=True)
class Prepared:
    """All that a run needs, with every reference resolved."""

    image: images.Image
    argv: tuple[str, ...]
    environment: dict[str, str]
    directory: Path
    mounts: Mounts
    trouble: str = ""
    """Why the command cannot be run; told when it is started, as a container runtime does."""


def prepare(spec: Mapping[str, Any], scope: PodScope, image: images.Image) -> Prepared:
    """Resolve a container's env, args and paths; ConfigError, VolumeError or ValueError where something is missing."""
    mounts = Mounts(spec, scope.volumes)
    own = EnvironmentBuilder(scope.pod, scope.placement, scope.sources).build(spec)
    command = [mounts.translate(expand(word, own)) for word in spec.get("command") or []]
    args = [mounts.translate(expand(word, own)) for word in spec.get("args") or []]
    trouble = ""
    try:
        resolved = image.command(scope.image_home, command, args)
    except (images.CommandError, images.PullError) as error:
        resolved, trouble = images.Command((), {}, None), str(error)
    environment = {
        "LANG": "C.UTF-8",
        "HOME": str(scope.folder),
        "TMPDIR": str(scope.temporary),
        "HOSTNAME": str(scope.pod["spec"].get("hostname") or name_of(scope.pod)),
        **resolved.environment,
        **{key: mounts.translate(value) for key, value in own.items()},
        MARKER: str(scope.lab_home),
    }
    directory = resolved.directory or scope.folder
    if spec.get("workingDir"):
        directory = Path(mounts.translate(spec["workingDir"]))
    return Prepared(image, resolved.argv, environment, directory, mounts, trouble)
