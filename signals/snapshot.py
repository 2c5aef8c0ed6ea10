"""Signed snapshots of all stack outputs: what a drain or a drill goes by when the state backend is away.

A snapshot is one canonical JSON document (sorted keys, no spaces, UTF-8, a newline at its end); its signature covers
every byte of `snapshot`, and bytes that are not the canonical ones are refused.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidSignature

from signals import SignalError, SnapshotError, keys
from signals.store import SignalStore

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
    return f"sha256:{hashlib.sha256(_canonical(outputs)).hexdigest()}"


def sign(snapshot: Snapshot, home: Path) -> bytes:
    """The signed document. Raises SnapshotError when there is no key to sign with."""
    key = keys.signing(home, snapshot.env)
    content = {"format": FORMAT, **vars(snapshot)}
    signature = base64.b64encode(key.sign(_canonical(content))).decode()
    return _canonical({"key": keys.name_of(key.public_key()), "signature": signature, "snapshot": content})


def verify(document: bytes, env: str, home: Path, *, where: str = "the snapshot") -> Snapshot:
    """The snapshot, if somebody trusted signed exactly these bytes for this environment. Raises SnapshotError."""
    try:
        signed = json.loads(document)
        content, name = signed["snapshot"], signed["key"]
        signature = base64.b64decode(signed["signature"], validate=True)
        outputs = content["outputs"]
    except (ValueError, KeyError, TypeError) as error:
        raise SnapshotError(
            f"{where} is no signed snapshot ({type(error).__name__}: {error}); `tandem up` writes one to"
            f" {local(home, env)} and to every signal bucket as {KEY}: take it from there"
        ) from error
    trusted = keys.trusted(home, env)
    if name not in trusted:
        raise SnapshotError(
            f"{where} is signed with key {name}, which is not trusted here: trusted are {', '.join(trusted) or 'none'};"
            f" put the signer's public key into {keys.folder(home, env)} as <name>.pub, or name it in {keys.VERIFYING}"
        )
    try:
        trusted[name].verify(signature, _canonical(content))
    except InvalidSignature:
        raise SnapshotError(
            f"{where}: the signature of key {name} does not fit its content: it was changed after it was signed;"
            " take another copy"
        ) from None
    # Base64 has bits that nothing reads: two texts may be one signature.
    if _canonical({**signed, "signature": base64.b64encode(signature).decode()}) != document:
        raise SnapshotError(f"{where}: bytes were added around what was signed; take another copy")
    if content["env"] != env:
        raise SnapshotError(f"{where} is of environment {content['env']!r}, not of {env!r}; take that one's")
    if content["format"] != FORMAT or content["digest"] != outputs_digest(outputs):
        raise SnapshotError(f"{where} has format {content['format']!r}; this version reads {FORMAT}: take a new one")
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


def _canonical(value: Any) -> bytes:
    return (json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n").encode()
