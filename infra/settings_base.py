"""What the settings of all layers have in common: how they are read and how a cloud is reached."""

from __future__ import annotations

from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, ClassVar, Final, Self, get_type_hints

import pulumi

from infra import checks, naming
from infra.checks import SettingError

PRIVATE: Final = "private"
PUBLIC: Final = "public"
KINDS: Final = (PRIVATE, PUBLIC)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every layer's settings have in common: how they are read."""

    layer: ClassVar[str]

    @classmethod
    def read(cls, config: pulumi.Config, **known: str) -> Self:
        """Every field from its key of `config`, except what the stack's name already says."""
        kinds = get_type_hints(cls)
        values: dict[str, Any] = dict(known)
        for entry in cls.declared():
            raw = config.get(entry.name)
            if raw is None or raw == "":
                if required(entry):
                    raise SettingError(
                        f"{entry.name} has no value; a {cls.layer} stack needs one: set {naming.PROJECT}:{entry.name}"
                        " in the stack's settings file"
                    )
                continue
            values[entry.name] = checks.parse(entry.name, raw, kinds[entry.name])
        return cls(**values)

    @classmethod
    def declared(cls) -> tuple[Field[Any], ...]:
        """The fields that are configuration keys."""
        return tuple(entry for entry in fields(cls) if entry.name != "site")


def required(entry: Field[Any]) -> bool:
    """Whether a stack's settings file has to give this key a value."""
    return entry.default is MISSING and entry.default_factory is MISSING


@dataclass(frozen=True, kw_only=True)
class AwsSettings(Settings):
    """How a stack reaches an AWS API, or one that speaks like it."""

    services: ClassVar[tuple[str, ...]]

    region: str
    aws_endpoints: dict[str, str] = field(default_factory=dict)
    """Service to URL; a service not named is reached at AWS's own endpoint."""
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    protect: bool = True
    """Whether what would be missed most refuses to be deleted."""

    def __post_init__(self) -> None:
        checks.region("region", self.region)
        checks.endpoints("aws_endpoints", self.aws_endpoints, self.services)
        checks.credentials(self.access_key, self.secret_key)
