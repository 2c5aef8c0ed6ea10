"""Signed snapshots of all stack outputs: what a drain or a drill goes by when the state backend is away.

A snapshot is a document of `signals/seal.py`.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from signals import SignalError, SnapshotError, seal
from signals.store import SignalStore

KIND: Final = "snapshot"
KEY: Final = "snapshots/outputs.json"
FORMAT: Final = 1
GIT_SECONDS: Final = 10


@dataclass(frozen=True)
class Snapshot:
    """Outputs of every stack of an environment at one moment, by stack name."""

    env: str
    taken: str
    revision: str
    """Git revision of the programs that brought the stacks up."""
    digest: str
    """Of the outputs alone: the same outputs have the same one."""
    outputs: dict[str, dict[str, Any]]

    @classmethod
    def of(cls, env: str, outputs: Mapping[str, Mapping[str, Any]], revision: str) -> Snapshot:
        """A snapshot of these outputs, now."""
        plain = {name: dict(exported) for name, exported in outputs.items()}
        return cls(env, datetime.now(UTC).isoformat(timespec="seconds"), revision, outputs_digest(plain), plain)


def outputs_digest(outputs: Mapping[str, Mapping[str, Any]]) -> str:
    """sha256:<hex> of the canonical JSON of outputs."""
    return f"sha256:{hashlib.sha256(seal.canonical(outputs)).hexdigest()}"


def sign(snapshot: Snapshot, home: Path) -> bytes:
    """The signed document. Raises SnapshotError when there is no key to sign with."""
    return seal.sign(KIND, {"format": FORMAT, **vars(snapshot)}, snapshot.env, home)


def verify(document: bytes, env: str, home: Path, *, where: str = "the snapshot") -> Snapshot:
    """The snapshot, if somebody trusted signed exactly these bytes for this environment. Raises SnapshotError."""
    source = f"`tandem up` writes one to {local(home, env)} and to every signal bucket as {KEY}"
    content = seal.verify(KIND, document, env, home, where=where, source=source)
    outputs = content.get("outputs")
    if content.get("format") != FORMAT or not isinstance(outputs, dict) or content["digest"] != outputs_digest(outputs):
        raise SnapshotError(
            f"{where} has format {content.get('format')!r}; this version reads {FORMAT}: take a new one"
        )
    return Snapshot(env, content["taken"], content["revision"], content["digest"], outputs)


def read(path: Path, env: str, home: Path) -> Snapshot:
    """A snapshot from a file, verified. Raises SnapshotError."""
    try:
        document = path.read_bytes()
    except OSError as error:
        raise SnapshotError(f"{path} cannot be read: {error.strerror}; name a snapshot `tandem up` wrote") from error
    return verify(document, env, home, where=str(path))


def local(home: Path, env: str) -> Path:
    """The snapshot on this machine."""
    return home / env / "outputs.json"


def write(snapshot: Snapshot, home: Path, stores: Sequence[SignalStore]) -> dict[str, str | None]:
    """Sign and write it on this machine and to every store; per store, why it could not be written there, or None."""
    document = sign(snapshot, home)
    path = local(home, snapshot.env)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(document)
    partial.replace(path)

    def put(store: SignalStore) -> str | None:
        try:
            store.put(KEY, document)
        except SignalError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(max(1, len(stores))) as pool:
        return dict(zip([store.site for store in stores], pool.map(put, stores), strict=True))


def revision(root: Path) -> str:
    """The programs' git revision, or `unknown` outside a checkout."""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"
