"""Signed documents: one canonical JSON object whose signature covers every byte of what it says.

Canonical means sorted keys, no spaces, UTF-8 and a newline at the end; bytes that are not the canonical ones are
refused.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature

from signals import SnapshotError, keys


def sign(kind: str, content: Mapping[str, Any], env: str, home: Path) -> bytes:
    """The document of this kind with this content. Raises SnapshotError when there is no key to sign with."""
    key = keys.signing(home, env)
    signature = base64.b64encode(key.sign(canonical(content))).decode()
    return canonical({"key": keys.name_of(key.public_key()), "signature": signature, kind: content})


def verify(kind: str, document: bytes, env: str, home: Path, *, where: str, source: str) -> dict[str, Any]:
    """The content, if somebody trusted signed exactly these bytes for this environment. Raises SnapshotError.

    `where` names the document and `source` says where a good one comes from.
    """
    try:
        signed = json.loads(document)
        content, name = dict(signed[kind]), signed["key"]
        signature = base64.b64decode(signed["signature"], validate=True)
    except (ValueError, KeyError, TypeError) as error:
        raise SnapshotError(
            f"{where} is no signed {kind} ({type(error).__name__}: {error}); {source}: take it from there"
        ) from error
    trusted = keys.trusted(home, env)
    if name not in trusted:
        raise SnapshotError(
            f"{where} is signed with key {name}, which is not trusted here: trusted are {', '.join(trusted) or 'none'};"
            f" put the signer's public key into {keys.folder(home, env)} as <name>.pub, or name it in {keys.VERIFYING}"
        )
    try:
        trusted[name].verify(signature, canonical(content))
    except InvalidSignature:
        raise SnapshotError(
            f"{where}: the signature of key {name} does not fit its content: it was changed after it was signed;"
            " take another copy"
        ) from None
    # Base64 has bits that nothing reads: two texts may be one signature.
    if canonical({**signed, "signature": base64.b64encode(signature).decode()}) != document:
        raise SnapshotError(f"{where}: bytes were added around what was signed; take another copy")
    if content.get("env") != env:
        raise SnapshotError(f"{where} is of environment {content.get('env')!r}, not of {env!r}; take that one's")
    return content


def canonical(value: Any) -> bytes:
    """The one way a value is written."""
    return (json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n").encode()
