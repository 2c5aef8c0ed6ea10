"""Which texts of a secret value can be credentials: they are searched for in everything that is printed.

The rest of it is words that stand elsewhere too. A kubeconfig is secret as a whole, and says `Config`, `kubectl` or
`oidc-login`; masking these everywhere would make other sentences unreadable and hide nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from infra.policies.declared import UNKNOWN

ENCRYPTED: Final = "[encrypted]"
"""Stands for a setting whose key nobody here holds."""
FEWEST_LETTERS: Final = 4
"""A secret shorter than this is masked where it is known to stand and not searched for elsewhere."""
PLAIN_KEYS: Final = frozenset(
    {
        "apiVersion", "certificate-authority", "certificate-authority-data", "client-certificate", "client-key",
        "cluster", "command", "current-context", "installHint", "interactiveMode", "kind", "name", "namespace",
        "proxy-url", "server", "tls-server-name", "tokenFile", "user",
    }
)  # fmt: skip
"""What a kubeconfig says under these keys names something, or is public
(https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/); an address with a password in it is no such thing."""
_NAMES_A_SECRET: Final = re.compile(r"token|password|passwd|secret|credential|key|auth", re.IGNORECASE)
_WORDS: Final = re.compile(r"--?[A-Za-z][A-Za-z-]*|[A-Za-z]+(?:[-_. ][A-Za-z]+)*(?:-\d{1,2})?|v?\d{1,3}(?:\.\d+)*")
"""An option, words of letters with a number at their end at most, a version: what a command is called with."""
_WITH_PASSWORD: Final = re.compile(r"\w+://[^/]*@")
_OPTION: Final = re.compile(r"(--?[A-Za-z][A-Za-z0-9-]*)=(.+)", re.DOTALL)


def texts(value: Any) -> Iterator[str]:
    """Every text in a secret value that can be a credential; what is JSON inside a text is taken apart as well."""
    yield from (each for each in _texts(value) if len(each) >= FEWEST_LETTERS)


def misplaced(value: Any) -> Iterator[str]:
    """The credentials of a kubeconfig that nobody calls secret, by the keys they stand under."""
    inner = _parsed(value) if isinstance(value, str) else value
    if isinstance(inner, Mapping) and inner.get("kind") == "Config":
        yield from (each for each in _kubeconfig(inner, surely=True) if len(each) >= FEWEST_LETTERS)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from _kubeconfig(value) if value.get("kind") == "Config" else _texts(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str) and value not in {"", UNKNOWN, ENCRYPTED}:
        yield value
        inner = _parsed(value)
        if not isinstance(inner, str):
            yield from _texts(inner)


def _kubeconfig(value: Any, named: str = "", *, surely: bool = False) -> Iterator[str]:
    """The same of a kubeconfig, or of a part of it that stands under the key `named`; `surely`: by such keys alone."""
    if isinstance(value, Mapping):
        # Of a variable of the plugin's environment the name says what it is.
        told = str(value["name"]) if set(value) == {"name", "value"} else ""
        for key, item in value.items():
            if isinstance(item, Mapping | list) or key not in PLAIN_KEYS or _WITH_PASSWORD.match(str(item)):
                yield from _kubeconfig(item, told if told and key == "value" else str(key), surely=surely)
    elif isinstance(value, list) and named == "args":
        yield from _arguments(value, surely)
    elif isinstance(value, list):
        for item in value:
            yield from _kubeconfig(item, named, surely=surely)
    elif isinstance(value, str) and (_NAMES_A_SECRET.search(named) or not (surely or _WORDS.fullmatch(value))):
        yield from _texts(value)


def _arguments(arguments: list[Any], surely: bool) -> Iterator[str]:
    before = ""
    for each in map(str, arguments):
        option = _OPTION.fullmatch(each)
        name, text = (option[1], option[2]) if option else (before, each)
        yield from _kubeconfig(text, name if name.startswith("-") else "", surely=surely)
        before = each


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
