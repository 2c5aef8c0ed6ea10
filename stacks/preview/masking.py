"""No secret in anything that is printed, wherever a program let it slip."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from infra.policies.declared import UNKNOWN
from stacks.preview.difference import ABSENT, Setting

MASK: Final = "[secret]"
LATER: Final = "known after up"
NOTHING: Final = "nothing"
LONGEST: Final = 160
"""Letters of one value in a text; a machine gets all of it."""


class Mask:
    """Writes values so that none of the secrets is in them."""

    def __init__(self, secrets: Iterable[str]) -> None:
        # The longest first: a short one may be a part of it. As JSON writes it, too.
        written = {
            form for each in secrets for form in (each, json.dumps(each)[1:-1], json.dumps(json.dumps(each))[2:-2])
        }
        self._secrets = sorted(written, key=len, reverse=True)

    def text(self, text: str) -> str:
        """The text without any of the secrets."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text

    def value(self, value: Any) -> Any:
        """Plain data without any of the secrets; what is unknown stays marked."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return MASK if str(value) in self._secrets else value

    def inputs(self, inputs: Mapping[str, Any], secret_paths: Iterable[str]) -> Any:
        """Inputs with everything at the secret paths masked, and the secrets elsewhere too."""
        paths = frozenset(secret_paths)

        def shown(value: Any, path: str) -> Any:
            if path in paths:
                return MASK
            if isinstance(value, Mapping):
                return {
                    self.text(str(key)): shown(item, f"{path}.{key}" if path else key) for key, item in value.items()
                }
            if isinstance(value, list):
                return [shown(item, f"{path}[{number}]") for number, item in enumerate(value)]
            return self.value(value)

        return {key: shown(value, key) for key, value in inputs.items()}

    def sides(self, changed: Setting) -> tuple[str, str]:
        """Both sides of a change in a few words."""
        if changed.secret:
            return (NOTHING if changed.old is ABSENT else MASK), (NOTHING if changed.new is ABSENT else MASK)
        return self._short(changed.old), self._short(changed.new)

    def _short(self, value: Any) -> str:
        if value is ABSENT:
            return NOTHING
        if value == UNKNOWN:
            return LATER
        text = json.dumps(self.value(value), ensure_ascii=False).replace(UNKNOWN, LATER)
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
