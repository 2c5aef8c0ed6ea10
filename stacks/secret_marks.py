"""How Pulumi marks what is secret: in states and messages, and in settings files.

https://www.pulumi.com/docs/iac/concepts/secrets/ and `sdk/go/common/resource/sig` of https://github.com/pulumi/pulumi
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

KEY: Final = "4dabf18193072939515e22adb298388d"
SECRET: Final = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - a mark of the protocol
"""Under KEY it says that the value, or its ciphertext, lies beside it."""
SECURE: Final = "secure"
"""The only key of a setting that is encrypted."""


def marked(value: Any) -> bool:
    """Whether this object of a state or message stands for a secret."""
    return isinstance(value, Mapping) and value.get(KEY) == SECRET


def is_ciphertext(value: Any) -> bool:
    """Whether this very setting is encrypted."""
    return isinstance(value, Mapping) and set(value) == {SECURE}


def encrypted(value: Any) -> bool:
    """Whether something in a setting is encrypted."""
    if isinstance(value, Mapping):
        return is_ciphertext(value) or any(encrypted(item) for item in value.values())
    return isinstance(value, list) and any(encrypted(item) for item in value)
