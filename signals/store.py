"""A site's signal bucket: small objects, read and written within seconds, conditionally where two may write."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from urllib.parse import urlsplit

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

from signals import ChangedError, NoBucketError, SignalError, StoreUnreachableError
from stacks.contract import StorageOutputs

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_SECONDS: Final = 2
READ_SECONDS: Final = 4
_Result = TypeVar("_Result")
_GONE: Final = ("NoSuchKey", "404", "NotFound")
_CHANGED: Final = ("PreconditionFailed", "412", "ConditionalRequestConflict", "409")


@dataclass(frozen=True)
class Stored:
    """An object as it was read."""

    body: bytes
    etag: str
    age_seconds: float
    """Since it was written, by the store's own clock: two machines need not agree on the time."""


@dataclass(frozen=True, kw_only=True)
class SignalStore:
    """One site's signal bucket; loopback asks for no credentials."""

    site: str
    bucket: str
    endpoint: str
    region: str
    profile: str = ""
    """Of the AWS configuration, whose credentials it is opened with; empty for those of the usual AWS environment."""

    @classmethod
    def of(cls, outputs: StorageOutputs) -> Self:
        """The bucket a storage stack exports."""
        return cls(
            site=outputs.site,
            bucket=outputs.signal_bucket,
            endpoint=outputs.endpoint,
            region=outputs.region,
            profile=outputs.credentials_profile,
        )

    @property
    def _client(self) -> S3Client:
        with _making_clients:
            return _client(self.endpoint, self.region, self.profile)

    def get(self, key: str) -> Stored | None:
        """An object, or None where there is none. Raises SignalError."""

        def ask() -> Stored:
            answer = self._client.get_object(Bucket=self.bucket, Key=key)
            body = answer["Body"].read()
            return Stored(body, answer["ETag"], max(0.0, (_now(answer) - answer["LastModified"]).total_seconds()))

        try:
            return self._ask(key, ask)
        except SignalError as error:
            if _code(error.__cause__) in _GONE:
                return None
            raise

    def put(
        self, key: str, body: bytes, *, content_type: str = "application/json", new: bool = False, instead_of: str = ""
    ) -> str:
        """Write an object and return its etag; with `new` only where none is, with `instead_of` only over that etag.

        Raises ChangedError when the condition does not hold, SignalError for all else.
        """
        options: dict[str, Any] = {"ContentType": content_type, "CacheControl": "no-store"}
        if new:
            options["IfNoneMatch"] = "*"
        if instead_of:
            options["IfMatch"] = instead_of
        try:
            answer = self._ask(key, lambda: self._client.put_object(Bucket=self.bucket, Key=key, Body=body, **options))
        except SignalError as error:
            if _code(error.__cause__) in (*_CHANGED, *_GONE):
                raise ChangedError(f"{self.place(key)}: somebody else wrote or removed it meanwhile") from error
            raise
        return answer["ETag"]

    def delete(self, key: str) -> None:
        """Remove an object; harmless where none is. Raises SignalError."""
        self._ask(key, lambda: self._client.delete_object(Bucket=self.bucket, Key=key))

    def place(self, key: str) -> str:
        """The object's name for a person."""
        return f"{self.site}: s3://{self.bucket}/{key}" + (f" at {self.endpoint}" if self.endpoint else "")

    def _ask(self, key: str, call: Callable[[], _Result]) -> _Result:
        try:
            return call()
        except ClientError as error:
            code, status = _code(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if status >= 500 or code in ("SlowDown", "RequestTimeout"):
                raise StoreUnreachableError(f"{self.place(key)}: the store answers {status} {code}") from error
            if code == "NoSuchBucket":
                raise NoBucketError(
                    f"{self.place(key)}: there is no such bucket; bring it up: tandem up --layer storage"
                ) from error
            raise SignalError(f"{self.place(key)}: refused with {code}; check rights and address") from error
        except NoCredentialsError as error:
            environment = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a role"
            wanted = f"give profile {self.profile} some" if self.profile else environment
            raise SignalError(f"{self.place(key)}: no credentials; {wanted}") from error
        except ProfileNotFound as error:
            raise SignalError(
                f"{self.place(key)}: this machine has no profile {self.profile}, which credentials_profile of the"
                f" storage stack names; make it: aws configure --profile {self.profile}"
            ) from error
        except (NoConnectionError, HTTPClientError, IncompleteReadError, OSError) as error:
            raise StoreUnreachableError(f"{self.place(key)}: no answer ({error})") from error
        except (BotoCoreError, ValueError) as error:
            raise SignalError(
                f"{self.place(key)}: cannot be asked ({error}); check the settings of the store"
            ) from error


def stores_of(storage: Mapping[str, StorageOutputs]) -> list[SignalStore]:
    """Every site's signal bucket, in the order in which everybody asks them."""
    return [SignalStore.of(storage[site]) for site in sorted(storage)]


_making_clients = threading.Lock()
"""Clients may be shared between threads, making one may not."""


@cache
def _client(endpoint: str, region: str, profile: str) -> S3Client:
    # Nobody signs what a store on loopback would not check, but an S3 client refuses to sign with no key at all.
    nobody = "none" if is_loopback(endpoint) and not profile else None
    return boto3.session.Session(profile_name=profile or None).client(
        "s3",
        endpoint_url=endpoint or None,
        region_name=region,
        aws_access_key_id=nobody,
        aws_secret_access_key=nobody,
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": 2},
            s3={"addressing_style": "path" if endpoint else "auto"},
            # Stores other than AWS do not all know the newer checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def is_loopback(url: str) -> bool:
    """Whether a URL can only mean this machine."""
    host = urlsplit(url).hostname or ""
    return host == "localhost" or host.startswith("127.")


def _now(answer: Any) -> datetime:
    """The store's time when it answered; ours where it does not tell."""
    told = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
    return parsedate_to_datetime(told) if told else datetime.now(UTC)


def _code(error: BaseException | None) -> str:
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""
