"""What a model package holds, byte for byte, and the digest that names it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from serving import PackageError

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
MODEL_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?")


def digest_of(data: bytes) -> str:
    """`sha256:` and the SHA-256 of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def check_digest(digest: str) -> str:
    """The digest itself when it has the right shape. Raises PackageError."""
    if not DIGEST.fullmatch(digest):
        raise PackageError(
            f"digest {digest!r}: a digest is 'sha256:' and 64 lower-case hexadecimal digits; "
            "copy it from what `tandem model train` printed"
        )
    return digest


def hex_of(digest: str) -> str:
    """The 64 hexadecimal digits of a digest: the folder name of a version, on disk and in a store."""
    return check_digest(digest).removeprefix("sha256:")


def version_number(digest: str) -> int:
    """The Triton version of a digest: its first 60 bits, so that every infer response names the package."""
    return int(hex_of(digest)[:15], 16)


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """Size in bytes and SHA-256 (64 hexadecimal digits) of one file."""

    sha256: str
    size: int

    @classmethod
    def of(cls, data: bytes) -> FileEntry:
        """The entry of these bytes."""
        return cls(sha256=hashlib.sha256(data).hexdigest(), size=len(data))

    def check(self, name: str, data: bytes) -> bytes:
        """The bytes themselves when they are the declared ones. Raises PackageError naming the file."""
        if len(data) != self.size:
            raise PackageError(
                f"{name}: {len(data)} bytes, but the manifest says {self.size}; "
                "the copy is truncated or was overwritten: publish the package again from a good copy"
            )
        found = hashlib.sha256(data).hexdigest()
        if found != self.sha256:
            raise PackageError(
                f"{name}: SHA-256 {found}, but the manifest says {self.sha256}; "
                "the copy is corrupt or was overwritten: publish the package again from a good copy"
            )
        return data


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Every file of a package with its SHA-256; its own canonical bytes give the package's digest."""

    model: str
    files: Mapping[str, FileEntry]
    catalogue_size: int
    metrics: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not MODEL_NAME.fullmatch(self.model):
            raise PackageError(f"model name {self.model!r}: lower-case letters, digits and inner dashes, at most 64")
        for name, entry in self.files.items():
            check_file_name(name)
            if not re.fullmatch(r"[0-9a-f]{64}", entry.sha256) or entry.size < 0:
                raise PackageError(f"{MANIFEST}: entry {name!r} has no valid sha256 and size; build the package again")

    def to_bytes(self) -> bytes:
        """The canonical form: UTF-8 JSON, sorted keys, no spaces, a newline at the end."""
        document = {
            "format": FORMAT,
            "model": self.model,
            "files": {name: {"sha256": entry.sha256, "size": entry.size} for name, entry in self.files.items()},
            "catalogue_size": self.catalogue_size,
            "metrics": dict(self.metrics),
            "training": dict(self.training),
        }
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode() + b"\n"

    @property
    def digest(self) -> str:
        """The name of the package: `sha256:` and the SHA-256 of the canonical bytes."""
        return digest_of(self.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """The manifest in these bytes. Raises PackageError unless they are a canonical manifest of this format."""
        try:
            document = json.loads(data)
            if document["format"] != FORMAT:
                raise PackageError(f"{MANIFEST}: format {document['format']!r}, this code reads {FORMAT}")
            manifest = cls(
                model=str(document["model"]),
                files={
                    str(name): FileEntry(sha256=str(entry["sha256"]), size=int(entry["size"]))
                    for name, entry in document["files"].items()
                },
                catalogue_size=int(document["catalogue_size"]),
                metrics=document["metrics"],
                training=document["training"],
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PackageError(f"{MANIFEST}: not a manifest ({error!r}); publish the package again") from error
        if manifest.to_bytes() != data:
            raise PackageError(f"{MANIFEST}: not in canonical form, so its digest names nothing; build it again")
        return manifest


def check_file_name(name: str) -> PurePosixPath:
    """The relative path of a package file. Raises PackageError for one that would leave the package."""
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or str(path) != name or name == MANIFEST:
        raise PackageError(f"{MANIFEST}: file name {name!r} must be a plain relative path inside the package")
    return path


def read(package: Path, digest: str | None = None) -> Manifest:
    """The manifest of a package directory, checked against the digest that names it when one is given."""
    path = package / MANIFEST
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PackageError(f"{path}: cannot be read ({error.strerror}); give the directory of a package") from error
    if digest is not None and digest_of(data) != check_digest(digest):
        raise PackageError(f"{path}: digest {digest_of(data)}, expected {digest}; fetch the package again")
    return Manifest.from_bytes(data)


def verify(package: Path, digest: str | None = None, names: Iterable[str] | None = None) -> Manifest:
    """The manifest, once every named file (all by default) was compared. Raises PackageError naming the file."""
    manifest = read(package, digest)
    for name in manifest.files if names is None else names:
        if name not in manifest.files:
            raise PackageError(f"{package / name}: not in the manifest, so it cannot be trusted")
        try:
            data = (package / name).read_bytes()
        except OSError as error:
            raise PackageError(f"{package / name}: cannot be read ({error.strerror}); fetch it again") from error
        manifest.files[name].check(str(package / name), data)
    return manifest
