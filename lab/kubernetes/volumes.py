"""A pod's volumes as folders, and the one rule that puts those folders where the manifest names a mount path."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lab.kubernetes.environment import ConfigError, Placement, Sources, field_value

SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 -- the kernel's own place for shared memory, looked up by name
"""A mount here is not translated: shared memory has one place on a machine, and segments are told apart by pod name."""


class VolumeError(Exception):
    """A volume cannot be made: its source is missing or the lab does not have its type."""


class Mounts:
    """A container's mounts: container path -> folder of the pod."""

    def __init__(self, container: Mapping[str, Any], volumes: Mapping[str, Path]) -> None:
        self._folders: dict[str, Path] = {}
        for mount in container.get("volumeMounts") or []:
            path = str(mount["mountPath"]).rstrip("/")
            folder = volumes.get(mount["name"])
            if folder is None:
                raise VolumeError(
                    f"volumeMount {mount['name']!r} of container {container['name']} names no volume of the pod"
                )
            if path and Path(path) != SHARED_MEMORY:
                self._folders[path] = _inside(folder, str(mount.get("subPath") or ""))
        ordered = sorted(self._folders, key=len, reverse=True)
        paths = "|".join(re.escape(path) for path in ordered)
        self._pattern = re.compile(rf"(?:\A|(?<=[=:, ]))(?:{paths})(?=[/:, ]|\Z)") if paths else None

    def translate(self, text: str) -> str:
        """Every mount path in `text` as the pod's folder, where it stands at a path boundary.

        A boundary is the start, or one of `=` `:` `,` and space before; the end, or one of `/` `:` `,` and space after.
        What names a path that is not mounted stays untouched, and fails by itself, as on a cluster.
        """
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda match: str(self._folders[match[0]]), text)


def _inside(folder: Path, relative: str) -> Path:
    target = folder / relative
    if not target.resolve().is_relative_to(folder.resolve()):
        raise VolumeError(f"subPath {relative!r} leaves its volume; give a path below it")
    if relative and not target.exists():
        target.mkdir(parents=True)
    return target


class VolumeMaker:
    """Makes one pod's volumes below its folder; claims live beside the pods and outlive them."""

    def __init__(
        self, pod: Mapping[str, Any], folder: Path, claims: Path, placement: Placement, sources: Sources
    ) -> None:
        self._pod = pod
        self._namespace: str = pod["metadata"]["namespace"]
        self._folder = folder
        self._claims = claims
        self._placement = placement
        self._sources = sources

    def make(self) -> dict[str, Path]:
        """Every volume's folder by its name; VolumeError naming the volume."""
        made: dict[str, Path] = {}
        for volume in self._pod["spec"].get("volumes") or []:
            name = volume["name"]
            try:
                made[name] = self._one(volume)
            except (ConfigError, VolumeError) as error:
                raise VolumeError(f'MountVolume.SetUp failed for volume "{name}": {error}') from error
        return made

    def _one(self, volume: Mapping[str, Any]) -> Path:
        folder = self._folder / str(volume["name"])
        if claim := volume.get("persistentVolumeClaim"):
            folder = self._claims / self._namespace / str(claim["claimName"])
        folder.mkdir(parents=True, exist_ok=True)
        # a hostPath is a folder of the pod too: no pod of the lab reads or writes the machine's own paths
        if any(key in volume for key in ("emptyDir", "persistentVolumeClaim", "hostPath")):
            return folder
        files = dict(self._files(volume))
        for path, (content, mode) in files.items():
            target = _inside(folder, str(Path(path).parent)) / Path(path).name
            target.write_bytes(content)
            target.chmod(mode)
        return folder

    def _files(self, volume: Mapping[str, Any]) -> Iterator[tuple[str, tuple[bytes, int]]]:
        if source := volume.get("configMap"):
            yield from self._bundle("configmap", source.get("name", ""), source, source.get("defaultMode", 0o644))
        elif source := volume.get("secret"):
            yield from self._bundle("secret", source.get("secretName", ""), source, source.get("defaultMode", 0o644))
        elif source := volume.get("downwardAPI"):
            yield from self._fields(source.get("items") or [], source.get("defaultMode", 0o644))
        elif source := volume.get("projected"):
            mode = source.get("defaultMode", 0o644)
            for part in source.get("sources") or []:
                yield from self._projected(part, mode)
        else:
            types = sorted(set(volume) - {"name"})
            raise VolumeError(
                f"type {', '.join(types) or 'none'} is not one the lab has; use emptyDir, configMap, secret,"
                " downwardAPI, projected, persistentVolumeClaim or hostPath"
            )

    def _projected(self, part: Mapping[str, Any], mode: int) -> Iterator[tuple[str, tuple[bytes, int]]]:
        if source := part.get("configMap"):
            yield from self._bundle("configmap", source.get("name", ""), source, mode)
        elif source := part.get("secret"):
            yield from self._bundle("secret", source.get("name", ""), source, mode)
        elif source := part.get("downwardAPI"):
            yield from self._fields(source.get("items") or [], mode)
        elif source := part.get("serviceAccountToken"):
            # the lab's API asks nobody who they are; the file is there for programs that insist on one
            yield source["path"], (b"lab", mode)
        else:
            raise VolumeError(f"projected source {', '.join(sorted(part)) or 'none'} is not one the lab has")

    def _fields(self, items: Sequence[Mapping[str, Any]], mode: int) -> Iterator[tuple[str, tuple[bytes, int]]]:
        for item in items:
            value = field_value(self._pod, item["fieldRef"]["fieldPath"], self._placement)
            yield item["path"], (value.encode(), item.get("mode", mode))

    def _bundle(
        self, what: str, name: str, source: Mapping[str, Any], mode: int
    ) -> Iterator[tuple[str, tuple[bytes, int]]]:
        content = self._content(what, name)
        if content is None:
            if source.get("optional"):
                return
            raise VolumeError(f'{what} "{name}" not found in namespace {self._namespace}')
        wanted = source.get("items") or [{"key": key, "path": key} for key in content]
        for item in wanted:
            if item["key"] not in content:
                if source.get("optional"):
                    continue
                raise VolumeError(f'{what} "{name}" has no key {item["key"]!r}')
            yield item["path"], (content[item["key"]], item.get("mode", mode))

    def _content(self, what: str, name: str) -> dict[str, bytes] | None:
        if what == "configmap":
            found = self._sources.config_map(self._namespace, name)
            if found is None:
                return None
            plain = {key: value.encode() for key, value in (found.get("data") or {}).items()}
            return plain | {key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}
        found = self._sources.secret(self._namespace, name)
        return (
            None
            if found is None
            else {key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()}
        )


def shared_memory_of(pod_name: str, other_pods: Sequence[str]) -> list[Path]:
    """Shared-memory segments of a pod: their names start with its name, and with no longer name of another pod."""
    longer = tuple(other for other in other_pods if other.startswith(pod_name) and other != pod_name)
    if not SHARED_MEMORY.is_dir():
        return []
    return [
        segment
        for segment in SHARED_MEMORY.iterdir()
        if segment.name.startswith(pod_name) and not (longer and segment.name.startswith(longer))
    ]
