"""Writes `schema.json`: the inputs and outputs of each type the lab implements, as pulumi_aws declares them.

Run `python -m lab.providers.aws.schema_source` after a change of the pulumi-aws pin or of CLASSES; a test compares the
file with the installed package.
"""

from __future__ import annotations

import importlib
import inspect
import json
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pulumi
from pulumi import _types

PATH: Final = Path(__file__).with_name("schema.json")

CLASSES: Final = (
    "acm.Certificate",
    "acm.CertificateValidation",
    "cloudwatch.LogGroup",
    "cloudwatch.LogResourcePolicy",
    "cloudwatch.MetricAlarm",
    "ec2.CapacityReservation",
    "ec2.Eip",
    "ec2.FlowLog",
    "ec2.InternetGateway",
    "ec2.LaunchTemplate",
    "ec2.NatGateway",
    "ec2.Route",
    "ec2.RouteTable",
    "ec2.RouteTableAssociation",
    "ec2.SecurityGroup",
    "ec2.Subnet",
    "ec2.Vpc",
    "ec2.VpcEndpoint",
    "eks.AccessEntry",
    "eks.AccessPolicyAssociation",
    "eks.Addon",
    "eks.Cluster",
    "eks.NodeGroup",
    "eks.PodIdentityAssociation",
    "iam.Role",
    "iam.RolePolicy",
    "iam.RolePolicyAttachment",
    "kms.Alias",
    "kms.Key",
    "kms.KeyPolicy",
    "lb.Listener",
    "lb.LoadBalancer",
    "lb.TargetGroup",
    "route53.HealthCheck",
    "route53.QueryLog",
    "route53.Record",
    "route53.Zone",
    "s3.Bucket",
    "s3.BucketLifecycleConfiguration",
    "s3.BucketObjectLockConfiguration",
    "s3.BucketOwnershipControls",
    "s3.BucketPolicy",
    "s3.BucketPublicAccessBlock",
    "s3.BucketReplicationConfig",
    "s3.BucketServerSideEncryptionConfiguration",
    "s3.BucketVersioning",
    "sns.Topic",
    "sns.TopicSubscription",
)
"""Classes of pulumi_aws whose types the lab implements."""

SCALARS: Final = {str: "string", bool: "boolean", int: "integer", float: "number"}


def describe() -> dict[str, Any]:
    """The schema of the provider and of every class in CLASSES, ready for JSON."""
    resources = {}
    for dotted in CLASSES:
        module_name, _, class_name = dotted.partition(".")
        module = importlib.import_module(f"pulumi_aws.{module_name}")
        resource = getattr(module, class_name)
        resources[_token(resource)] = _resource(resource)
    provider = _object(_arguments_class(importlib.import_module("pulumi_aws").Provider))
    return {"provider": provider, "resources": dict(sorted(resources.items()))}


def _resource(resource: type) -> dict[str, Any]:
    arguments = _object(_arguments_class(resource))
    always: list[str] = []
    sometimes: list[str] = []
    for name, getter in vars(resource).items():
        if isinstance(getter, property) and getter.fget is not None:
            (output,) = typing.get_args(getter.fget.__annotations__["return"])
            optional = type(None) in typing.get_args(output)
            (sometimes if optional else always).append(getattr(getter.fget, "_pulumi_name", name))
    return {**arguments, "always": sorted(always), "sometimes": sorted(sometimes)}


def _token(resource: type) -> str:
    source = inspect.getsource(resource._internal_init)  # type: ignore[attr-defined]  # every generated resource has it
    return next(part for part in source.split("'") if part.startswith("aws:"))


def _arguments_class(resource: type) -> type:
    module = inspect.getmodule(resource)
    names = (f"{resource.__name__}InitArgs", f"{resource.__name__}Args")
    found: type = next(getattr(module, name) for name in names if hasattr(module, name))
    return found


def _object(arguments: type) -> dict[str, Any]:
    module = inspect.getmodule(arguments)
    scope = {**vars(module), "Output": pulumi.Output, "T": typing.TypeVar("T")}
    hints = typing.get_type_hints(arguments.__init__, scope)  # type: ignore[misc]  # read only
    names = _types.input_type_py_to_pulumi_names(arguments)
    parameters = inspect.signature(arguments.__init__).parameters  # type: ignore[misc]  # read only
    properties, required = {}, []
    for python_name, hint in hints.items():
        if python_name == "return":
            continue
        name = names.get(python_name, python_name)
        properties[name] = _type(hint)
        if parameters[python_name].default is inspect.Parameter.empty:
            required.append(name)
    return {"properties": dict(sorted(properties.items())), "required": sorted(required)}


def _type(hint: Any) -> Any:
    """The one type among a hint's alternatives that a plain value can have."""
    if hint in SCALARS:
        return SCALARS[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is not None and inspect.isclass(origin):
        if issubclass(origin, Mapping):
            return {"map": _type(arguments[1])}
        if issubclass(origin, Sequence):
            return {"list": _type(arguments[0])}
    if arguments and not (inspect.isclass(origin) and issubclass(origin, pulumi.Output)):
        found = [_type(argument) for argument in arguments if _plain(argument)]
        return found[0] if found else "any"
    if inspect.isclass(hint) and _types.is_input_type(hint):
        return _object(hint)
    return "any"


def _plain(hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if hint is type(None) or typing.is_typeddict(hint):
        return False
    return not (inspect.isclass(origin) and (origin.__name__ == "Awaitable" or issubclass(origin, pulumi.Output)))


def main() -> None:
    """Write the file."""
    PATH.write_text(json.dumps(describe(), indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
