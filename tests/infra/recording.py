"""One recording engine for components and programs: it proves what is declared, not what a provider makes of it."""

from __future__ import annotations

import asyncio
import atexit
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import pulumi
from pulumi.runtime import settings as runtime
from pulumi.runtime.mocks import MockCallArgs, MockMonitor, MockResourceArgs, Mocks
from pulumi_aws import ec2, s3

with warnings.catch_warnings():
    # These two modules warn about classes of their own, none of them used here, while they are loaded at first use.
    warnings.simplefilter("ignore", DeprecationWarning)
    LOADED = (ec2.Vpc, s3.Bucket)

LOOP = asyncio.new_event_loop()
# What a program failed with has been raised; the SDK holds it in other futures too, which nobody asks.
LOOP.set_exception_handler(lambda *_: None)
atexit.register(LOOP.close)
STACK_REFERENCE = "pulumi:pulumi:StackReference"
COMPUTED: Mapping[str, Mapping[str, Any]] = {
    "aws:s3/bucket:Bucket": {"bucket": "{name}-1234567"},
    "aws:kms/key:Key": {"arn": "arn:aws:kms:::key/{name}", "keyId": "{name}-key-id"},
    "aws:iam/role:Role": {"arn": "arn:aws:iam:::role/{name}", "name": "{name}-1234567"},
    "aws:ec2/eip:Eip": {"publicIp": "192.0.2.1"},
    "aws:ec2/launchTemplate:LaunchTemplate": {"latestVersion": 1},
    "aws:eks/cluster:Cluster": {
        "endpoint": "https://{name}.eks.example",
        "certificateAuthority": {"data": "Y2VydA=="},
    },
    "aws:lb/loadBalancer:LoadBalancer": {
        "arn": "arn:aws:elb:::{name}",
        "dnsName": "{name}.elb.example",
        "zoneId": "ZELB",
    },
    "aws:lb/targetGroup:TargetGroup": {"arn": "arn:aws:tg:::{name}"},
    "aws:sns/topic:Topic": {"arn": "arn:aws:sns:::{name}"},
    "aws:cloudwatch/logGroup:LogGroup": {"arn": "arn:aws:logs:::log-group:{name}"},
    "aws:cloudwatch/metricAlarm:MetricAlarm": {"name": "{name}-1234567"},
    "aws:acm/certificate:Certificate": {"arn": "arn:aws:acm:::{name}"},
    "aws:route53/zone:Zone": {"zoneId": "Z1", "nameServers": ["ns1.example", "ns2.example"]},
}
"""Computed outputs the components read, by type; `{name}` is the resource's logical name."""


def _proof(name: str) -> dict[str, str]:
    return {
        "domainName": name,
        "resourceRecordName": f"_proof.{name}.",
        "resourceRecordType": "CNAME",
        "resourceRecordValue": f"_value.{name}.acm-validations.aws.",
    }


class Engine(Mocks):
    """Answers registrations with their inputs and the listed computed outputs, and nothing that is not listed."""

    def __init__(self, recorded: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self.recorded = recorded or {}

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        if args.typ == STACK_REFERENCE:
            name = args.inputs["name"]
            return name, {"name": name, "outputs": dict(self.recorded[name]), "secretOutputNames": []}
        computed = {
            key: value.format(name=args.name) if isinstance(value, str) else value
            for key, value in COMPUTED.get(args.typ, {}).items()
        }
        if args.typ == "aws:acm/certificate:Certificate":
            names = [args.inputs["domainName"], *args.inputs.get("subjectAlternativeNames", [])]
            computed["domainValidationOptions"] = [_proof(name) for name in names]
        return f"{args.name}-id", {**args.inputs, **computed}

    def call(self, args: MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        raise AssertionError(f"unknown lookup {args.token}: list its answer or do not ask")


class Monitor(MockMonitor):
    """Keeps each registration request whole, so that parents, providers and protection can be seen."""

    def __init__(self, mocks: Mocks) -> None:
        super().__init__(mocks)
        self.requests: dict[str, Any] = {}
        self.read: set[str] = set()

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the wire protocol's name
        urn = self.make_urn(request.parent, request.type, request.name)
        assert urn not in self.requests, f"registered twice: {urn}"
        self.requests[urn] = request
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]  # the SDK leaves its mocks untyped

    def ReadResource(self, request: Any) -> Any:  # noqa: N802 - the wire protocol's name
        self.read.add(request.name)
        return super().ReadResource(request)  # type: ignore[no-untyped-call]  # as above


class Graph:
    """What a program registered, by type and logical name."""

    def __init__(self, monitor: Monitor, result: Any) -> None:
        self.result = result
        self._monitor = monitor

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        """Logical name to state of every resource whose type ends in `kind`."""
        return {
            request.name: self._monitor.resources[urn].state
            for urn, request in self._monitor.requests.items()
            if request.type.endswith(f":{kind}")
        }

    def one(self, kind: str, name: str | None = None) -> dict[str, Any]:
        """State of the only resource of `kind`, or of the one called `name`."""
        found = self.of(kind)
        if name is not None:
            return found[name]
        assert len(found) == 1, f"{kind}: {sorted(found)}"
        return next(iter(found.values()))

    def request(self, kind: str, name: str) -> Any:
        """The registration of one resource as the engine received it."""
        return next(r for r in self._monitor.requests.values() if r.type.endswith(f":{kind}") and r.name == name)

    def without_parent(self) -> set[str]:
        """Types of custom resources that hang from no component; providers and references may."""
        return {
            request.type
            for request in self._monitor.requests.values()
            if request.custom and "tandem:" not in request.parent
        }

    def unproved(self) -> set[str]:
        """Types registered with no explicit provider."""
        return {
            request.type
            for request in self._monitor.requests.values()
            if request.custom and not request.provider and not request.type.startswith("pulumi:")
        }

    def references(self) -> set[str]:
        """Logical names of the stacks whose outputs were read."""
        return self._monitor.read

    def types(self) -> set[str]:
        return {request.type for request in self._monitor.requests.values()}


def run(declare: Callable[[], Any], recorded: Mapping[str, Mapping[str, Any]] | None = None) -> Graph:
    """Run `declare` under the recording engine to its end; only then is everything registered."""
    # Asynchronous tests that ran before have taken the thread's event loop with them; the SDK expects one.
    asyncio.set_event_loop(LOOP)
    engine = Engine(recorded)
    monitor = Monitor(engine)
    # Or exports leak from test to test; the SDK takes None and does not say so.
    runtime.set_root_resource(None)  # type: ignore[arg-type]
    pulumi.runtime.set_mocks(engine, project="tandem", stack="test", preview=False, monitor=monitor)
    results: list[Any] = []

    def program() -> Any:
        return pulumi.Output.from_input(declare()).apply(results.append)

    pulumi.runtime.test(program)()  # type: ignore[no-untyped-call]  # as above
    return Graph(monitor, results[0] if results else None)
