"""The object store of one site: moto's S3 in a process of its own, so that losing a site loses its store."""

from __future__ import annotations

import contextlib
import io
import json
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

import xmltodict  # type: ignore[import-untyped]  # what moto reads XML with; it has no types
from moto.s3.models import FakeBucket, s3_backends
from moto.s3.utils import bucket_policy_is_public

from lab.aws.bucket_policy import REPLICA_HEADER, REQUEST, Facts, act_on_policies
from lab.aws.replication import Replicator, arrived, holds
from lab.aws.replication import status as replication_status
from lab.aws.server import ACCOUNT, arguments, moto_application, preload, serve
from lab.aws.write_refusal import service_error
from lab.process import die_with_parent
from lab.topology import Topology

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

POLICY_LIMIT_BYTES: Final = 20_480
"""What S3 takes: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-policies.html."""
READING: Final = ("GET", "HEAD")
REPORT_PATH: Final = "/tandem/replication"
"""What waits to be copied and what was given up, as JSON."""
SUBRESOURCES: Final = frozenset({"acl", "legal-hold", "partNumber", "retention", "tagging", "uploadId"})
"""Of a PUT that makes no new version."""
BUFFERED_BYTES: Final = 2**20
"""A body up to this size is received before its key is taken, so that a slow sender holds up nobody."""
TURN_SECONDS: Final = 30.0
"""How long a write waits for another one of the same key."""
_PATH: Final = re.compile(r"/(?P<bucket>[^/]+)(?:/(?P<key>.+))?/?")


class KeyLocks:
    """One writer at a time for each key: a condition and the write that rests on it are one step."""

    def __init__(self) -> None:
        self._held: set[str] = set()
        self._freed = threading.Condition()

    @contextlib.contextmanager
    def only(self, key: str) -> Iterator[None]:
        """Wait until nobody else is in here with this key; raises TimeoutError when that takes too long."""
        with self._freed:
            if not self._freed.wait_for(lambda: key not in self._held, TURN_SECONDS):
                raise TimeoutError(key)
            self._held.add(key)
        try:
            yield
        finally:
            with self._freed:
                self._held.discard(key)
                self._freed.notify_all()


class Store:
    """The WSGI application: moto, with S3's guards of public policies, one writer of a key at a time, replication."""

    def __init__(self, moto: WSGIApplication, places: Sequence[str] = ()) -> None:
        self._moto = moto
        self._locks = KeyLocks()
        self.replicator = Replicator(places)
        act_on_policies()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path, method = environ.get("PATH_INFO", ""), environ["REQUEST_METHOD"]
        if path == REPORT_PATH and method == "GET":
            return _json(start_response, self.replicator.report())
        REQUEST.set(Facts.of(environ))
        matched = _PATH.fullmatch(path)
        bucket = _bucket(matched["bucket"]) if matched else None
        query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        if method in READING:
            return self._read(bucket, matched["key"] if matched else None, query, environ, start_response)
        body = _receive(environ)
        if bucket is not None and matched and not matched["key"]:
            answered = _configure(bucket, method, query, body, environ, start_response)
            if answered is not None:
                return answered
        copy = REQUEST.get().headers.get(REPLICA_HEADER.lower(), "")
        if copy and bucket is not None and matched:
            if not bucket.is_versioned:
                reason = "Destination bucket must have versioning enabled."
                return _answer(environ, start_response, "InvalidRequest", reason, 400)
            if holds(bucket, matched["key"], copy):  # its answer was lost on the way
                start_response("200 OK", [("Content-Length", "0")])
                return []
        status = 500

        def noting(line: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            nonlocal status
            status = int(line.split(" ", 1)[0])
            return start_response(line, headers, *rest)

        try:
            with self._locks.only(path):
                if method == "DELETE" and environ.get("HTTP_IF_MATCH") == "*" and _holds(bucket, matched):
                    del environ["HTTP_IF_MATCH"]  # moto compares the asterisk with the entity tag
                answer = list(self._moto(environ, noting))
                if bucket is not None and matched and status < 300:
                    for key in written(method, matched["key"], query, body):
                        if copy:
                            arrived(bucket, key, copy)
                        else:
                            self.replicator.written(bucket, key)
                return answer
        except TimeoutError:
            reason = "The conditional request cannot succeed due to a conflicting operation against this resource."
            return _answer(environ, start_response, "ConditionalRequestConflict", reason, 409)

    def _read(
        self,
        bucket: FakeBucket | None,
        key: str | None,
        query: dict[str, list[str]],
        environ: WSGIEnvironment,
        start_response: StartResponse,
    ) -> Iterable[bytes]:
        anonymous = _anonymous(environ, query)
        if bucket is not None and anonymous and _restricted(bucket):
            return _answer(environ, start_response, "AccessDenied", "Access Denied", 403)
        if bucket is not None and not key and "replication" in query and hasattr(bucket, "replication_document"):
            return _xml(start_response, bucket.replication_document)
        if anonymous and environ["REQUEST_METHOD"] == "HEAD" and key:
            environ["REQUEST_METHOD"] = "GET"  # moto asks for a right to HeadObject, which there is none of
            list(self._moto(environ, start_response))
            return []
        if bucket is None or not key:
            return self._moto(environ, start_response)
        version = s3_backends[ACCOUNT]["aws"].get_object(bucket.name, key, version_id=query.get("versionId", [None])[0])
        told = replication_status(version)

        def telling(line: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            return start_response(line, [*headers, ("x-amz-replication-status", told)] if told else headers, *rest)

        return self._moto(environ, telling)


def written(method: str, key: str | None, query: dict[str, list[str]], body: bytes) -> list[str]:
    """Keys that have a new version, or a new delete marker, after this request."""
    if not key:
        if method != "POST" or "delete" not in query:
            return []
        objects = xmltodict.parse(body, force_list=("Object",))["Delete"].get("Object", [])
        return [entry["Key"] for entry in objects if not entry.get("VersionId")]
    if method == "DELETE":
        return [] if query.keys() & {"versionId", "uploadId", "tagging"} else [key]
    if method == "POST":
        return [key] if "uploadId" in query else []
    return [] if query.keys() & SUBRESOURCES else [key]


def _configure(
    bucket: FakeBucket,
    method: str,
    query: dict[str, list[str]],
    body: bytes,
    environ: WSGIEnvironment,
    start_response: StartResponse,
) -> Iterable[bytes] | None:
    """What moto would do otherwise with a setting of a bucket; None for what it does well."""
    if method == "PUT" and "policy" in query:
        refusal = _refuse_policy(bucket, body)
        return None if refusal is None else _answer(environ, start_response, *refusal)
    if method == "PUT" and "replication" in query:
        bucket.replication_document = body  # type: ignore[attr-defined]  # moto forgets most of it
    if method == "PUT" and "object-lock" in query:
        if not bucket.is_versioned:
            reason = "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration"
            return _answer(environ, start_response, "InvalidBucketState", reason, 409)
        _lock(bucket, body)
        start_response("200 OK", [("Content-Length", "0")])
        return []
    return None


def _lock(bucket: FakeBucket, body: bytes) -> None:
    """The retention of new versions; moto refuses to change it once there are objects."""
    given = xmltodict.parse(body)["ObjectLockConfiguration"]
    retention = (given.get("Rule") or {}).get("DefaultRetention") or {}
    bucket.object_lock_enabled = True
    bucket.default_lock_mode = retention.get("Mode", "")
    bucket.default_lock_days = int(retention.get("Days", 0))
    bucket.default_lock_years = int(retention.get("Years", 0))


def _receive(environ: WSGIEnvironment) -> bytes:
    """The body, if it is a small one; it can be read again."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if not 0 < length <= BUFFERED_BYTES:
        return b""
    body: bytes = environ["wsgi.input"].read(length)
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def _bucket(name: str) -> FakeBucket | None:
    found: FakeBucket | None = s3_backends[ACCOUNT]["aws"].buckets.get(name)
    return found


def _holds(bucket: FakeBucket | None, matched: re.Match[str] | None) -> bool:
    """Whether the key has a current version, which a delete marker is not."""
    if bucket is None or matched is None or not matched["key"]:
        return False
    return s3_backends[ACCOUNT]["aws"].get_object(bucket.name, matched["key"]) is not None


def _refuse_policy(bucket: FakeBucket, body: bytes) -> tuple[str, str, int] | None:
    """Why S3 would not take this policy: no policy at all, or a public one where these are blocked."""
    if len(body) > POLICY_LIMIT_BYTES:
        return "MalformedPolicy", f"a policy of {len(body)} bytes; at most {POLICY_LIMIT_BYTES} are allowed", 400
    try:
        statements = json.loads(body)["Statement"]
    except (ValueError, KeyError, TypeError):
        return "MalformedPolicy", "This policy contains invalid Json, or no Statement; correct it", 400
    if not statements:
        return "MalformedPolicy", "Could not parse the policy: Statement is empty; give at least one", 400
    block = bucket.public_access_block
    if block is not None and block.block_public_policy and bucket_policy_is_public(body):
        return "AccessDenied", "public policies are blocked by this bucket's BlockPublicPolicy; set it to false", 403
    return None


def _anonymous(environ: WSGIEnvironment, query: dict[str, list[str]]) -> bool:
    return not environ.get("HTTP_AUTHORIZATION") and not {"X-Amz-Signature", "Signature"} & query.keys()


def _restricted(bucket: FakeBucket) -> bool:
    """Whether a public policy opens nothing here."""
    block = bucket.public_access_block
    return bool(block is not None and block.restrict_public_buckets and bucket_policy_is_public(bucket.policy or b""))


def _answer(
    environ: WSGIEnvironment, start_response: StartResponse, code: str, message: str, status: int
) -> Iterable[bytes]:
    error = service_error(environ, "s3", code, message, status)
    start_response(f"{status} ", [*error.headers, ("Content-Length", str(len(error.body)))])
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else error.body]


def _json(start_response: StartResponse, document: dict[str, Any]) -> Iterable[bytes]:
    body = json.dumps(document).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def _xml(start_response: StartResponse, body: bytes) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


def places(topology: Topology) -> list[str]:
    """Stores a copy may go to: of the regions without a site first, then of every site."""
    return [topology.aws_url, *(site.store_url for _, site in sorted(topology.sites.items()))]


def main(given: list[str] | None = None) -> None:
    """Serve until told to stop."""
    die_with_parent()
    home, site = arguments(given, with_site=True)
    topology = Topology.load(home)
    addresses = topology.site(site)
    moto = moto_application()
    preload(moto, ("s3",))
    serve(addresses.store_host, addresses.store_port, Store(moto, places(topology)))


if __name__ == "__main__":
    main()
