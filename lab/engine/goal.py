"""What the program asks for, read from its request; what this engine does not do is refused here."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from lab.engine.errors import ProgramError, ResourceError
from lab.engine.urn import Alias, child_urn
from lab.engine.values import read

_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:h|ms|m|s))+")
_REFUSED: Final = {
    "importId": "import",
    "transforms": "transforms",
    "hooks": "resource hooks",
    "replace_with": "replace_with",
    "replacement_trigger": "replacement_trigger",
    "state_migrations": "state migrations",
    "envVarMappings": "env_var_mappings",
    "packageRef": "parameterized packages",
}
"""Fields of a request that ask for what this engine does not do."""
_BUILT_IN: Final = {"pulumi:pulumi:Stack", "pulumi:pulumi:StackReference"}


def unsupported(what: str) -> str:
    """The one sentence for everything left out."""
    return f"the embedded engine does not do {what}; leave it out, or use the Pulumi CLI (--engine cli)"


@dataclass(frozen=True, kw_only=True)
class Goal:
    """One resource as the program declares it."""

    urn: str
    type: str
    name: str
    parent: str
    custom: bool
    inputs: dict[str, Any]
    dependencies: list[str]
    property_dependencies: dict[str, list[str]]
    provider: str = ""
    aliases: list[Alias] = field(default_factory=list)
    protect: bool = False
    ignore_changes: list[str] = field(default_factory=list)
    replace_on_changes: list[str] = field(default_factory=list)
    delete_before_replace: bool | None = None
    additional_secret_outputs: list[str] = field(default_factory=list)
    custom_timeouts: dict[str, float] = field(default_factory=dict)
    retain_on_delete: bool = False
    deleted_with: str = ""

    @classmethod
    def read(cls, request: Any, stack: str, project: str) -> Goal:
        """From a RegisterResourceRequest; ResourceError for what this engine does not do."""
        urn = child_urn(stack, project, request.parent, request.type, request.name)
        for name, what in _REFUSED.items():
            value = getattr(request, name)
            asked = request.HasField(name) if name in {"hooks", "replacement_trigger"} else bool(value)
            if asked and (name != "hooks" or value.ListFields()):
                raise ResourceError(urn, unsupported(what))
        if request.remote:
            raise ResourceError(urn, unsupported("remote components"))
        if request.type.startswith("pulumi-python:dynamic"):
            raise ResourceError(urn, unsupported("dynamic providers"))
        return cls(
            urn=urn,
            type=request.type,
            name=request.name,
            parent=request.parent,
            custom=request.custom,
            inputs=read(request.object),
            dependencies=sorted(request.dependencies),
            property_dependencies={
                key: sorted(edges.urns) for key, edges in sorted(request.propertyDependencies.items())
            },
            provider=request.provider,
            aliases=[*(Alias(urn=each) for each in request.aliasURNs), *(_alias(each) for each in request.aliases)],
            protect=request.protect,
            ignore_changes=list(request.ignoreChanges),
            replace_on_changes=list(request.replaceOnChanges),
            delete_before_replace=request.deleteBeforeReplace if request.deleteBeforeReplaceDefined else None,
            additional_secret_outputs=list(request.additionalSecretOutputs),
            custom_timeouts={
                name: seconds(getattr(request.customTimeouts, name), urn)
                for name in ("create", "update", "delete")
                if getattr(request.customTimeouts, name)
            },
            retain_on_delete=request.retainOnDelete,
            deleted_with=request.deletedWith,
        )


def _alias(alias: Any) -> Alias:
    if alias.WhichOneof("alias") == "urn":
        return Alias(urn=alias.urn)
    spec = alias.spec
    return Alias(
        name=spec.name,
        type=spec.type,
        stack=spec.stack,
        project=spec.project,
        parent=spec.parentUrn,
        parentless=spec.noParent,
    )


def seconds(text: str, urn: str) -> float:
    """A duration such as 5m or 1h30m."""
    if not _DURATION.fullmatch(text):
        raise ResourceError(
            urn, f"the timeout {text!r} is no duration; one reads 90s, 5m or 1h30m: correct custom_timeouts"
        )
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s)", text))


def require_provider(reference: str, urn: str) -> str:
    """The URN part of a provider reference; a resource without one would use a default provider."""
    if not reference:
        raise ResourceError(
            urn,
            f"it has no explicit provider and {unsupported('default providers')}: pass"
            " opts=ResourceOptions(provider=...)",
        )
    return reference.rpartition("::")[0]


def require_stack_reference(request: Any, stack: str, project: str) -> str:
    """The URN of a ReadResource request, which may only be for a StackReference."""
    urn = child_urn(stack, project, request.parent, request.type, request.name)
    if request.type != "pulumi:pulumi:StackReference":
        raise ResourceError(urn, unsupported("reading resources it does not manage (.get)"))
    return urn


def referenced_stack(name: str, project: str) -> str:
    """The stack's own name in `organization/tandem/storage-private.lab`, `tandem/...` or the plain form."""
    parts = name.split("/")
    if len(parts) > 3 or (len(parts) > 1 and parts[-2] != project):
        raise ProgramError(
            f"stack reference {name!r} is not of project {project!r}; a reference reads"
            f" organization/{project}/<stack>: correct it"
        )
    return parts[-1]
