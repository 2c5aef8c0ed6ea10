"""The keys that sign and verify snapshots: Ed25519, in files under the home or given by variables.

`TANDEM_SIGNING_KEY` is a private key in PEM, or the path of one; else `<home>/<env>/keys/signing.pem` is it, made at
first use. `TANDEM_VERIFY_KEY` is one or more public keys in PEM, or the path of them; they count beside every
`<home>/<env>/keys/*.pub`, so a colleague's key is trusted by putting it there.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from signals import SnapshotError

SIGNING: Final = "TANDEM_SIGNING_KEY"
VERIFYING: Final = "TANDEM_VERIFY_KEY"
_PUBLIC: Final = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)
_PEM: Final = "-----BEGIN"


def folder(home: Path, env: str) -> Path:
    """Where an environment's keys are on this machine."""
    return home / env / "keys"


def name_of(key: Ed25519PublicKey) -> str:
    """A short name of a public key: the start of its SHA-256."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def signing(home: Path, env: str) -> Ed25519PrivateKey:
    """The private key, made with its public half beside it when there is none. Raises SnapshotError."""
    if given := os.environ.get(SIGNING):
        return _private(given.encode() if given.startswith(_PEM) else _bytes(Path(given), SIGNING), SIGNING)
    path = folder(home, env) / "signing.pem"
    if not path.exists():
        _make(path)
    key = _private(_bytes(path, "the signing key"), str(path))
    public = path.with_suffix(".pub")
    if not public.exists():
        public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return key


def trusted(home: Path, env: str) -> dict[str, Ed25519PublicKey]:
    """The public keys whose signatures count here, by name; those given by the environment count as well."""
    texts = [(path.read_bytes(), str(path)) for path in sorted(folder(home, env).glob("*.pub"))]
    if given := os.environ.get(VERIFYING):
        texts.append((given.encode() if given.startswith(_PEM) else _bytes(Path(given), VERIFYING), VERIFYING))
    if private := os.environ.get(SIGNING):
        own = _private(private.encode() if private.startswith(_PEM) else _bytes(Path(private), SIGNING), SIGNING)
        return {name_of(own.public_key()): own.public_key(), **_publics(texts)}
    return _publics(texts)


def _publics(texts: list[tuple[bytes, str]]) -> dict[str, Ed25519PublicKey]:
    found = {}
    for text, where in texts:
        blocks = _PUBLIC.findall(text)
        if not blocks:
            raise SnapshotError(f"{where} holds no public key in PEM; put an Ed25519 one there, or take it away")
        for block in blocks:
            try:
                key = load_pem_public_key(block)
            except (ValueError, UnsupportedAlgorithm) as error:
                raise SnapshotError(f"{where}: no public key that can be read ({error}); put it there again") from error
            if not isinstance(key, Ed25519PublicKey):
                raise SnapshotError(f"{where} holds a {type(key).__name__}; snapshots are signed with Ed25519")
            found[name_of(key)] = key
    return found


def _make(path: Path) -> None:
    """A new private key only its owner may read; when two make one at once, the first one stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
    try:
        os.link(partial, path)
    except FileExistsError:
        pass
    finally:
        partial.unlink()


def _private(text: bytes, where: str) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(text, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SnapshotError(
            f"{where} is no private key that can be read ({error}); give an Ed25519 one in PEM, without a passphrase"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SnapshotError(f"{where} holds a {type(key).__name__}; snapshots are signed with Ed25519")
    return key


def _bytes(path: Path, where: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SnapshotError(f"{where}: {path} cannot be read: {error.strerror}") from error
