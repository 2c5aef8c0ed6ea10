"""The object store of one site: moto's S3 in a process of its own, so that losing a site loses its store."""

from __future__ import annotations

import contextlib
import io
import json
import re
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from moto.s3.models import FakeBucket, s3_backends
from moto.s3.utils import bucket_policy_is_public

from lab.aws.server import ACCOUNT, arguments, moto_application, preload, serve
from lab.aws.write_refusal import service_error
from lab.process import die_with_parent
from lab.topology import Topology

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

POLICY_LIMIT_BYTES: Final = 20_480
"""What S3 takes: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-policies.html."""
READING: Final = ("GET", "HEAD")
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
    """The WSGI application: moto, with S3's guards of public policies and writes of one key one after the other."""

    def __init__(self, moto: WSGIApplication) -> None:
        self._moto = moto
        self._locks = KeyLocks()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path, method = environ.get("PATH_INFO", ""), environ["REQUEST_METHOD"]
        matched = _PATH.fullmatch(path)
        bucket = _bucket(matched["bucket"]) if matched else None
        query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        if method in READING:
            anonymous = _anonymous(environ, query)
            if bucket is not None and anonymous and _restricted(bucket):
                return _answer(environ, start_response, "AccessDenied", "Access Denied", 403)
            if anonymous and method == "HEAD" and matched and matched["key"]:
                environ["REQUEST_METHOD"] = "GET"  # moto asks for a right to HeadObject, which there is none of
                list(self._moto(environ, start_response))
                return []
            return self._moto(environ, start_response)
        body = _receive(environ)
        if bucket is not None and "policy" in query and method == "PUT":
            refusal = _refuse_policy(bucket, body)
            if refusal is not None:
                return _answer(environ, start_response, *refusal)
        try:
            with self._locks.only(path):
                if method == "DELETE" and environ.get("HTTP_IF_MATCH") == "*" and _holds(bucket, matched):
                    del environ["HTTP_IF_MATCH"]  # moto compares the asterisk with the entity tag
                return list(self._moto(environ, start_response))
        except TimeoutError:
            reason = "The conditional request cannot succeed due to a conflicting operation against this resource."
            return _answer(environ, start_response, "ConditionalRequestConflict", reason, 409)


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


def main(given: list[str] | None = None) -> None:
    """Serve until told to stop."""
    die_with_parent()
    home, site = arguments(given, with_site=True)
    addresses = Topology.load(home).site(site)
    moto = moto_application()
    preload(moto, ("s3",))
    serve(addresses.store_host, addresses.store_port, Store(moto))


if __name__ == "__main__":
    main()
