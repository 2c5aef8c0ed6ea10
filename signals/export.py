"""Signed exports of stack states: what a state backend is filled from again after it is lost.

An export is a document of `signals/seal.py` that holds a state byte for byte as its engine exported it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from signals import SnapshotError, seal

KIND: Final = "export"
FORMAT: Final = 1


@dataclass(frozen=True)
class Export:
    """One stack's state at one moment."""

    env: str
    stack: str
    taken: str
    revision: str
    """Git revision of the programs at that moment."""
    state: str
    """What the engine exported: JSON in the shape of `pulumi stack export`."""

    @classmethod
    def of(cls, env: str, stack: str, revision: str, state: str) -> Export:
        """An export of this state, now."""
        return cls(env, stack, datetime.now(UTC).isoformat(timespec="seconds"), revision, state)


def key_of(stack: str) -> str:
    """Its object in a signal bucket."""
    return f"state/{stack}.json"


def local(home: Path, env: str) -> Path:
    """The folder of exports on this machine."""
    return home / env / "exports"


def sign(export: Export, home: Path) -> bytes:
    """The signed document. Raises SnapshotError when there is no key to sign with."""
    return seal.sign(KIND, {"format": FORMAT, **vars(export)}, export.env, home)


def verify(document: bytes, env: str, stack: str, home: Path, *, where: str) -> Export:
    """The export, if somebody trusted signed exactly these bytes for this stack. Raises SnapshotError."""
    source = f"`tandem up` writes one per stack to {local(home, env)} and, outside the lab, to every signal bucket"
    content = seal.verify(KIND, document, env, home, where=where, source=source)
    if content.get("format") != FORMAT or not isinstance(content.get("state"), str):
        raise SnapshotError(
            f"{where} has format {content.get('format')!r}; this version reads {FORMAT}: take a new one"
        )
    if content["stack"] != stack:
        raise SnapshotError(f"{where} is of stack {content['stack']}, not of {stack}; take that one's")
    return Export(env, stack, content["taken"], content["revision"], content["state"])


def read(folder: Path, env: str, stack: str, home: Path) -> Export | None:
    """The stack's export in a folder, verified; None where there is none. Raises SnapshotError."""
    path = folder / f"{stack}.json"
    try:
        document = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SnapshotError(
            f"{path} cannot be read: {error.strerror}; make it readable, or take another copy"
        ) from error
    return verify(document, env, stack, home, where=str(path))


def write(document: bytes, folder: Path, name: str) -> Path:
    """Put a document where only its owner reads it, in one step."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{name}.json"
    partial = folder / f".{name}.{os.getpid()}"
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(document)
    partial.replace(path)
    return path
