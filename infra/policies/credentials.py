"""Rules of what must not be read by everybody."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from infra.policies.declared import UNKNOWN, Declared, StackDeclared
from infra.policies.inputs import at, leaves, many
from infra.policies.pods import WORKLOADS, called, every_container
from infra.policies.rule import Finding, resource_rule, stack_rule, unsure, wrong

SECRET: Final = "kubernetes:core/v1:Secret"  # noqa: S105 - a type
CONFIG_MAP: Final = "kubernetes:core/v1:ConfigMap"
PUBLIC_WORDS: Final = ("health_token", "drain_token")
"""Words that health checks search for; they stand in plain DNS configuration and open nothing."""
_KEY: Final = re.compile(
    r"(password|passwd|passphrase|secret|secret[_-]?key|access[_-]?key|private[_-]?key|api[_-]?key|client-key-data|token)$",
    re.IGNORECASE,
)
_VALUE: Final = re.compile(
    r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\."
    r"|://[^/\s:@]+:[^/\s:@]+@"
    r'|"(client-key-data|password|token|secret[_-]?key)"\s*:\s*"[^"]+"'
)
"""Keys of AWS, private keys, web tokens, passwords in URLs, credentials in JSON such as a kubeconfig."""


def _looks_secret(key: str, value: Any) -> bool:
    """Whether a key says, or a value shows, that everybody who reads it could use it."""
    if not isinstance(value, str) or not value:
        return False
    name = key.rpartition(".")[2].partition("[")[0]
    return name.lower() not in PUBLIC_WORDS and bool(_KEY.search(name) or (value != UNKNOWN and _VALUE.search(value)))


def _marked(path: str, secrets: frozenset[str]) -> bool:
    """Whether this path, or what it lies in, is secret."""
    return any(path == held or path.startswith((f"{held}.", f"{held}[")) for held in secrets)


@resource_rule(
    "no-secret-in-manifest",
    "No credential stands in a pod's environment or arguments, or in a ConfigMap: whoever reads the object has it.",
    *WORKLOADS,
    CONFIG_MAP,
)
def no_secret_in_manifest(resource: Declared) -> Iterator[Finding]:
    """A value from a Secret, or an identity instead of a key."""
    remedy = "whoever may read the object could use it: take it from a Secret, or give the pod an identity"
    if resource.type == CONFIG_MAP:
        for key, value in (at(resource.inputs, "data") or {}).items() if _plain(at(resource.inputs, "data")) else ():
            if _looks_secret(key, value):
                yield wrong(resource, f"data.{key} holds a credential in the clear; {remedy}")
        return
    for container in every_container(resource):
        for entry in many(at(container, "env")):
            name = str(at(entry, "name"))
            if _looks_secret(name, at(entry, "value")):
                yield wrong(resource, f"env {name} of {called(container)} holds a credential in the clear; {remedy}")
        for word in many(at(container, "command")) + many(at(container, "args")):
            if isinstance(word, str) and word != UNKNOWN and _VALUE.search(word):
                yield wrong(resource, f"an argument of {called(container)} holds a credential; {remedy}")


def _plain(data: Any) -> bool:
    return isinstance(data, Mapping)


@stack_rule(
    "secrets-marked",
    "Whatever is a credential is secret to Pulumi too: in inputs, in providers, in outputs, and all of every Secret.",
    secretness=True,
)
def secrets_marked(stack: StackDeclared) -> Iterator[Finding]:
    """What is not marked stands in the clear in the state, in previews and in logs."""
    remedy = "it would stand in the clear in state, previews and logs: wrap it in pulumi.Output.secret"
    for resource in stack.resources:
        if resource.type in WORKLOADS or not resource.custom:
            continue
        whole = ("data", "stringData") if resource.type == SECRET else ()
        for path, value in leaves(resource.inputs):
            if _marked(path, resource.secrets):
                continue
            held = path.startswith(tuple(f"{part}." for part in whole)) or path in whole
            if held and value == UNKNOWN:
                yield unsure(resource, f"{path}, and with it whether it is secret,")
            elif held or (_looks_secret(path, value) and value != UNKNOWN):
                yield wrong(resource, f"{path} is not secret; {remedy}")
    for path, value in leaves(stack.outputs):
        if value != UNKNOWN and _looks_secret(path, value) and not _marked(path, stack.secret_outputs):
            yield wrong(stack, f"output {path} is not secret; {remedy}")


RULES: Final = (no_secret_in_manifest, secrets_marked)
