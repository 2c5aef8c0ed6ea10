"""Which resource a path names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lab.kubernetes.api.errors import NotFound
from lab.kubernetes.api.kinds import NAMESPACE, Kind, Kinds

PROXY: Final = "proxy"


@dataclass(frozen=True)
class Target:
    """What a request is about: a kind, or one object of it, or a subresource of one object."""

    kind: Kind
    namespace: str | None
    name: str | None
    subresource: str | None

    @property
    def passes_on(self) -> bool:
        """Whether the request is for what the object stands for, whatever follows in its path."""
        return self.subresource == PROXY


def resolve(kinds: Kinds, path: str) -> Target | None:
    """The target of a path under /api/v1 or /apis/<group>/<version>; None elsewhere; NotFound for an unknown kind."""
    parts = [part for part in path.split("/") if part]
    if parts[:1] == ["api"] and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[:1] == ["apis"] and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = None
    # namespaces/<ns>/<plural>; but namespaces/<name>, and namespaces/<name>/status, are about the namespace itself
    if rest[0] == "namespaces" and len(rest) > 2 and not (group == "" and rest[2] in ("status", "finalize")):
        namespace, rest = rest[1], rest[2:]
    kind = kinds.by_resource(group, version, rest[0])
    deep = len(rest) > 3 and rest[2] != PROXY
    if kind is None or deep or (namespace is not None and not kind.namespaced):
        raise unknown(f"/{'/'.join(parts)}")
    name = rest[1] if len(rest) > 1 else None
    subresource = rest[2] if len(rest) > 2 else None
    if kind.namespaced and namespace is None and name is not None:
        raise unknown(f"/{'/'.join(parts)}")
    if subresource and subresource not in kind.subresources and not (kind is NAMESPACE and subresource == "finalize"):
        raise unknown(f"/{'/'.join(parts)}")
    return Target(kind, namespace, name, subresource)


def unknown(path: str) -> NotFound:
    """The answer for a path that leads nowhere here."""
    return NotFound(f"the server could not find the requested resource; {path} is not served by the lab", lacking=True)
