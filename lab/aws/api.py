"""The AWS API of the lab: moto, with Route 53's refusals, the prober's real health, and a log of every call."""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from moto.cloudwatch.models import cloudwatch_backends
from moto.route53.models import Route53Backend, route53_backends

from lab.aws import eks, observations
from lab.aws.acm import issue_proven
from lab.aws.check import CALCULATED
from lab.aws.cloudwatch import CloudWatch
from lab.aws.request_log import Operation, RequestLog, operation
from lab.aws.route53_alarm_rules import ALARM, keep_alarm
from lab.aws.route53_check_rules import refuse_check, refuse_deletion
from lab.aws.route53_repairs import complete_new_check, complete_updated_check, key, repair_deletion, repair_zone
from lab.aws.route53_rules import MalformedXml, Refusal, changes, refuse_changes
from lab.aws.server import ACCOUNT, arguments, moto_application, preload, serve
from lab.aws.store import Store
from lab.aws.write_refusal import REASON, UNAVAILABLE, ServiceError, WriteRefusal, service_error
from lab.process import die_with_parent
from lab.topology import Topology

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

BODY_LIMIT_BYTES: Final = 16 * 2**20
"""The calls of this API are small; objects go to the stores of the sites."""
WARM: Final = ("route53", "ec2", "elbv2", "eks", "iam", "sts", "cloudwatch")
OWN_CALLS: Final = (
    "there are GET /tandem/requests?since=N&writes=true, GET /tandem/version, and GET, PUT and DELETE"
    " /tandem/refuse-writes"
)

_CHECK = re.compile(r"/2013-04-01/healthcheck(?:/(?P<id>[^/]+)(?:/(?P<aspect>status|lastfailurereason))?)?/?")
_RECORDS = re.compile(r"/2013-04-01/hostedzone/(?P<zone>[^/]+)/rrset/?")
_ZONES = re.compile(r"/2013-04-01/hostedzone/?")
_ASPECTS = {"status": "GetHealthCheckStatus", "lastfailurereason": "GetHealthCheckLastFailureReason"}


class Api:
    """The WSGI application: what moto answers wrongly is answered here, the rest is moto's."""

    def __init__(self, moto: WSGIApplication, prober_url: str, clock_factor: float = 1.0) -> None:
        self._moto = moto
        self._objects = Store(moto)
        """S3 in regions without a site, where copies are kept: no control plane, so neither logged nor refused."""
        self.cloudwatch = CloudWatch(lambda: observations.report(prober_url), clock_factor=clock_factor)
        self._prober_url = prober_url
        self._lock = threading.Lock()
        self.log = RequestLog()
        self.refusal = WriteRefusal()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if "/s3/aws4_request" in environ.get("HTTP_AUTHORIZATION", ""):
            return self._objects(environ, start_response)
        length = int(environ.get("CONTENT_LENGTH") or 0)
        if length > BODY_LIMIT_BYTES:
            refusal = Refusal(
                "RequestEntityTooLarge", f"a body of {length} bytes; the limit is {BODY_LIMIT_BYTES}", 413
            )
            return _refuse(start_response, refusal)
        body = environ["wsgi.input"].read(length) if length else b""
        environ["wsgi.input"] = io.BytesIO(body)
        if path.startswith("/tandem/"):
            return self._own(path, body, environ, start_response)
        asked = operation(environ, body)
        status = 500

        def noting(line: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            nonlocal status
            status = int(line.split(" ", 1)[0])
            return start_response(line, headers, *rest)

        try:
            if asked.service == "acm":
                issue_proven()
            error = self._prevented(asked, environ)
            versions = eks.answer(environ, body) if error is None and asked.service == "eks" else None
            if isinstance(versions, dict):
                return _json(noting, 200, versions)
            if versions is not None:
                error = service_error(environ, "eks", versions.code, versions.message, versions.status)
            if error is not None:
                noting(f"{error.status} ", [*error.headers, ("Content-Length", str(len(error.body)))])
                return [error.body]
            answer = list(self._dispatch(path, body, environ, noting))
            if asked.action == "PutMetricAlarm":
                self.cloudwatch.settle()
            return answer
        finally:
            self.log.record(asked, status)

    def _prevented(self, asked: Operation, environ: WSGIEnvironment) -> ServiceError | None:
        """What is answered before anything is done: writes are refused for now, or nothing was to be done."""
        if asked.changes and self.refusal.seconds:
            return service_error(environ, asked.service, UNAVAILABLE, REASON, 503)
        if asked.dry_run:  # moto does what several operations ask for, dry run or not
            reason = "Request would have succeeded, but DryRun flag is set."
            return service_error(environ, asked.service, "DryRunOperation", reason, 412)
        return None

    def _dispatch(
        self, path: str, body: bytes, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        check, records = _CHECK.fullmatch(path), _RECORDS.fullmatch(path)
        method = environ["REQUEST_METHOD"]
        try:
            if check and check["aspect"]:
                return self._observations(check["id"], _ASPECTS[check["aspect"]], start_response)
            if check and method in ("POST", "PUT", "DELETE"):
                return self._change_check(check["id"], body, environ, start_response)
            if records and method == "POST":
                return self._change_records(records["zone"], body, environ, start_response)
        except MalformedXml as error:
            return _refuse(start_response, Refusal("MalformedInput", f"the body is no XML document: {error}; send one"))
        answer = list(self._moto(environ, start_response))
        if _ZONES.fullmatch(path) and method == "POST":
            for zone in list(_backend().zones.values()):
                repair_zone(zone)
        return answer

    def _change_check(
        self, check_id: str | None, body: bytes, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        with self._lock:
            checks = _backend().health_checks
            known = checks.get(check_id) if check_id else None
            if check_id and known is None:
                return _refuse(start_response, _no_such_check(check_id))
            if environ["REQUEST_METHOD"] == "DELETE":
                refusal = refuse_deletion(check_id or "", {one.id: one.children or () for one in checks.values()})
                return _refuse(start_response, refusal) if refusal else list(self._moto(environ, start_response))
            kinds = {one.id: str(one.type_) for one in checks.values()}
            refusal = refuse_check(body, kinds, str(known.type_) if known else None, _alarm_exists)
            if refusal is not None:
                return _refuse(start_response, refusal)
            if known is None:
                body = complete_new_check(body)
            else:
                body = complete_updated_check(body, known)
                known.health_check_version += 1
            environ |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
            answer = list(self._moto(environ, start_response))
            for check in [known] if known else [one for one in checks.values() if one.id not in kinds]:
                if check.type_ == ALARM:
                    keep_alarm(check, body)
            return answer

    def _change_records(
        self, zone_id: str, body: bytes, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        batch = changes(body)
        with self._lock:
            zone = _backend().zones.get(zone_id)
            if zone is None:
                return list(self._moto(environ, start_response))
            before = list(zone.rrsets)
            refusal = refuse_changes(batch, map(key, before), _backend().health_checks.__contains__, zone.name)
            if refusal is not None:
                return _refuse(start_response, refusal)
            answer = list(self._moto(environ, start_response))
            repair_deletion(zone, before, batch)
            return answer

    def _observations(self, check_id: str, name: str, start_response: StartResponse) -> Iterable[bytes]:
        known = _backend().health_checks.get(check_id)
        if known is None:
            return _refuse(start_response, _no_such_check(check_id))
        if known.type_ == CALCULATED:
            refusal = Refusal("InvalidInput", f"{name} does not tell the status of a CALCULATED health check")
            return _refuse(start_response, refusal)
        try:
            seen = observations.report(self._prober_url)["checks"].get(check_id)
        except observations.ProberAwayError as error:
            return _refuse(start_response, Refusal("ServiceUnavailable", str(error), 503))
        return _answer(start_response, 200, observations.document(name, seen))

    def _own(self, path: str, body: bytes, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """The lab's own calls; they stand in no log."""
        method = environ["REQUEST_METHOD"]
        query = parse_qs(environ.get("QUERY_STRING", ""))
        since = query.get("since", ["0"])[0]
        if path == "/tandem/requests" and method == "GET" and since.isdigit():
            return _json(start_response, 200, self.log.after(int(since), writes_only=query.get("writes") == ["true"]))
        if path == "/tandem/version" and method == "GET":
            return _json(start_response, 200, {"version": self.log.version()})
        if path == "/tandem/refuse-writes" and method in ("GET", "PUT", "DELETE"):
            try:
                if method == "PUT":
                    self.refusal.begin(json.loads(body)["seconds"])
            except (ValueError, KeyError, TypeError) as error:
                reason = f'{error}; send {{"seconds": N}}'
                return _json(start_response, 400, {"error": reason})
            if method == "DELETE":
                self.refusal.end()
            return _json(start_response, 200, {"seconds": self.refusal.seconds})
        return _json(start_response, 404, {"error": f"{method} {path}: {OWN_CALLS}"})


def _backend() -> Route53Backend:
    """Moto's Route 53 of the one account the lab has."""
    return route53_backends[ACCOUNT]["aws"]


def _alarm_exists(region: str, name: str) -> bool:
    return name in cloudwatch_backends[ACCOUNT][region].alarms


def _no_such_check(check_id: str) -> Refusal:
    return Refusal("NoSuchHealthCheck", f"No health check exists with the specified ID {check_id}", 404)


def _refuse(start_response: StartResponse, refusal: Refusal) -> Iterable[bytes]:
    return _answer(start_response, refusal.status, refusal.body())


def _json(start_response: StartResponse, status: int, document: dict[str, Any]) -> Iterable[bytes]:
    return _answer(start_response, status, json.dumps(document).encode(), "application/json")


def _answer(start_response: StartResponse, status: int, body: bytes, content_type: str = "text/xml") -> Iterable[bytes]:
    start_response(f"{status} ", [("Content-Type", content_type), ("Content-Length", str(len(body)))])
    return [body]


def main(given: list[str] | None = None) -> None:
    """Serve until told to stop."""
    die_with_parent()
    os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"  # programs attach AmazonEKSClusterPolicy and the like
    factored = argparse.ArgumentParser(allow_abbrev=False)
    factored.add_argument("--clock-factor", type=float, default=1.0, help="divides the periods of alarms")
    parsed, rest = factored.parse_known_args(given)
    home, _ = arguments(rest)
    topology = Topology.load(home)
    moto = moto_application()
    preload(moto, WARM)
    address = urlsplit(topology.aws_url)
    api = Api(moto, topology.prober_url, parsed.clock_factor)
    api.cloudwatch.start()
    serve(address.hostname or "", address.port or 0, api)


if __name__ == "__main__":
    main()
