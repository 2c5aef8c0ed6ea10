"""Versions in object stores: in all of them or not selectable, never overwritten, read back before trusted."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ProfileNotFound,
)
from botocore.exceptions import ConnectionError as NoConnectionError

from serving import PackageError, StoreError, StoreUnreachableError
from serving.manifest import DIGEST, MANIFEST, Manifest, digest_of, hex_of, verify

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectTypeDef

DEFAULT_REGION: Final = "us-east-1"
_Result = TypeVar("_Result")
_MISSING: Final = ("NoSuchKey", "NoSuchBucket", "404", "NotFound")
_EXISTS: Final = ("PreconditionFailed", "412")
_BEING_WRITTEN: Final = ("ConditionalRequestConflict", "409")


@dataclass(frozen=True, kw_only=True)
class Store:
    """One site's bucket. Credentials come from the usual AWS environment or a profile of it, never from here."""

    name: str
    bucket: str
    endpoint: str = ""
    region: str = DEFAULT_REGION
    profile: str = ""

    @cached_property
    def client(self) -> S3Client:
        """An S3 client with short deadlines; a store of one's own is addressed by path."""
        # A session of its own, so that credentials are looked up now and stores can be used side by side in threads.
        return boto3.session.Session(profile_name=self.profile or None).client(
            "s3",
            endpoint_url=self.endpoint or None,
            region_name=self.region,
            config=Config(
                connect_timeout=3,
                read_timeout=20,
                retries={"mode": "standard", "total_max_attempts": 2},
                s3={"addressing_style": "path" if self.endpoint else "auto"},
                # Stores other than AWS do not all know the newer checksums; our own SHA-256 is compared in any case.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def location(self, key: str) -> str:
        """The object's name for a person."""
        return f"{self.name}: s3://{self.bucket}/{key}" + (f" at {self.endpoint}" if self.endpoint else "")

    def get(self, key: str) -> bytes:
        """The bytes of an object. Raises StoreError naming it."""
        return self._ask(key, lambda: self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def put_new(self, key: str, data: bytes) -> None:
        """Write an object that must not exist yet; the same bytes there already are as good. Raises StoreError."""
        # A store that locks what it keeps takes nothing without a checksum of the older kind or a newer one.
        checksum = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        for _ in range(3):
            try:
                self._ask(
                    key,
                    lambda: self.client.put_object(
                        Bucket=self.bucket, Key=key, Body=data, IfNoneMatch="*", ContentMD5=checksum
                    ),
                )
            except StoreError as error:
                code = _code(error.__cause__)
                if code in _EXISTS:
                    break
                if code not in _BEING_WRITTEN:
                    raise
                time.sleep(0.2)  # somebody else writes it this moment: what they wrote is compared next
            else:
                return
        if self.get(key) != data:
            raise StoreError(
                f"{self.location(key)}: other bytes are there already; a version is never overwritten: "
                "find out who wrote them, remove them by hand and publish again"
            )

    def keys(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        """Keys under a prefix with the time each was written. Raises StoreError."""

        def ask() -> list[ObjectTypeDef]:
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            return [entry for page in pages for entry in page.get("Contents", [])]

        for entry in self._ask(prefix, ask):
            yield entry["Key"], entry["LastModified"]

    def _ask(self, key: str, call: Callable[[], _Result]) -> _Result:
        try:
            return call()
        except ClientError as error:
            code, status = _code(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if status >= 500 or code in ("SlowDown", "RequestTimeout"):
                raise StoreUnreachableError(f"{self.location(key)}: the store answers {status} {code}") from error
            if code in _MISSING:
                raise StoreError(
                    f"{self.location(key)}: not there ({code}); publish the version to this store"
                ) from error
            raise StoreError(f"{self.location(key)}: refused with {code}; check rights and address") from error
        except NoCredentialsError as error:
            environment = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a role"
            wanted = f"give profile {self.profile} some" if self.profile else environment
            raise StoreError(f"{self.location(key)}: no credentials; {wanted}") from error
        except ProfileNotFound as error:
            raise StoreError(
                f"{self.location(key)}: this machine has no profile {self.profile}, which credentials_profile of the"
                f" storage stack names; make it: aws configure --profile {self.profile}"
            ) from error
        except (NoConnectionError, HTTPClientError, IncompleteReadError, OSError) as error:
            raise StoreUnreachableError(f"{self.location(key)}: no answer ({error})") from error
        except (BotoCoreError, ValueError) as error:
            raise StoreError(
                f"{self.location(key)}: cannot be asked ({error}); check the settings of the store"
            ) from error


def object_key(model: str, digest: str, name: str) -> str:
    """Where a package file lies in a store: models/<model>/<hex digest>/<file>."""
    return f"models/{model}/{hex_of(digest)}/{name}"


def get_manifest(store: Store, model: str, digest: str) -> Manifest:
    """The manifest of a version, compared with the digest that names it. Raises StoreError, PackageError."""
    key = object_key(model, digest, MANIFEST)
    data = store.get(key)
    if digest_of(data) != digest:
        raise PackageError(
            f"{store.location(key)}: its bytes have digest {digest_of(data)}, not {digest}; "
            "it was overwritten or damaged: publish the version again under a clean prefix"
        )
    manifest = Manifest.from_bytes(data)
    if manifest.model != model:
        raise PackageError(f"{store.location(key)}: is of model {manifest.model!r}, not {model!r}")
    return manifest


def get_file(store: Store, manifest: Manifest, name: str) -> bytes:
    """A package file, compared with the manifest. Raises StoreError, PackageError naming the object."""
    key = object_key(manifest.model, manifest.digest, name)
    return manifest.files[name].check(store.location(key), store.get(key))


def check_version(store: Store, model: str, digest: str) -> Manifest:
    """The manifest of a version, once every object of it was read and compared. Raises StoreError, PackageError."""
    manifest = get_manifest(store, model, digest)
    for name in manifest.files:
        get_file(store, manifest, name)
    return manifest


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What publishing came to: per store None, or why it does not hold the version."""

    digest: str
    outcome: dict[str, str | None]

    @property
    def selectable(self) -> bool:
        """Whether every store holds the version, read back and compared."""
        return bool(self.outcome) and all(reason is None for reason in self.outcome.values())


def publish(package: Path, stores: Sequence[Store]) -> Publication:
    """Upload a package to every store and read every object back; publishing twice is the same as once.

    Manifests come last, once all stores hold all files: a version is not listed anywhere before it is everywhere.
    Raises PackageError when the package itself is not what its manifest says.
    """
    manifest = verify(package)
    outcome: dict[str, str | None] = {store.name: None for store in stores}
    if len(outcome) != len(stores):
        raise StoreError(f"stores {[store.name for store in stores]}: a name stands twice; give each store its own")

    def each(step: Callable[[Store], None]) -> None:
        for store in stores:
            try:
                step(store)
            except (StoreError, PackageError) as error:
                outcome[store.name] = str(error)

    def upload(store: Store) -> None:
        for name in manifest.files:
            store.put_new(object_key(manifest.model, manifest.digest, name), (package / name).read_bytes())
        for name in manifest.files:
            get_file(store, manifest, name)

    def announce(store: Store) -> None:
        store.put_new(object_key(manifest.model, manifest.digest, MANIFEST), manifest.to_bytes())
        get_manifest(store, manifest.model, manifest.digest)

    each(upload)
    publication = Publication(digest=manifest.digest, outcome=outcome)
    if publication.selectable:
        each(announce)
    return publication


@dataclass(frozen=True, kw_only=True)
class Version:
    """A version and the stores that list it with a manifest of the right digest."""

    digest: str
    published: datetime
    stores: tuple[str, ...]
    selectable: bool
    metrics: dict[str, object]


def versions(stores: Sequence[Store], model: str) -> list[Version]:
    """The versions any store lists, newest first; selectable are those that all list. Raises StoreError."""
    found: dict[str, dict[str, datetime]] = {}
    manifests: dict[str, Manifest] = {}
    for store in stores:
        for key, written in store.keys(f"models/{model}/"):
            digest = "sha256:" + key.split("/")[2]
            if key.count("/") == 3 and key.endswith("/" + MANIFEST) and DIGEST.fullmatch(digest):
                try:
                    manifests[digest] = get_manifest(store, model, digest)
                except PackageError:
                    continue  # a damaged manifest names no version
                found.setdefault(digest, {})[store.name] = written
    listed = [
        Version(
            digest=digest,
            published=max(places.values()),
            stores=tuple(sorted(places)),
            selectable=len(places) == len(stores),
            metrics=dict(manifests[digest].metrics),
        )
        for digest, places in found.items()
    ]
    return sorted(listed, key=lambda version: (version.published, version.digest), reverse=True)


def _code(error: BaseException | None) -> str:
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""
