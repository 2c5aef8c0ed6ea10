"""Which kind of data lies where, and which of it may leave its site.

Imports no pulumi: settings, components and whatever moves data go by the same rule.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Final

from infra.checks import SettingError

TAG: Final = "tandem.io/data-class"
"""Tag of every bucket: the classes it may hold."""
SEPARATOR: Final = "+"
"""S3 takes no comma in a tag (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions)."""
SETTING: Final = "raw_events_may_leave"


class DataClass(StrEnum):
    """What a bucket may hold, as its tag says it."""

    MODELS = "models"
    ITEMS = "items"
    """Titles and features of what is recommended; every model package carries those it ranks."""
    PSEUDONYMISED_EVENTS = "pseudonymised-events"
    RAW_EVENTS = "raw-events"
    """Behaviour with what names the person."""
    SIGNALS = "signals"
    BACKUPS = "backups"
    """Beside the classes of what was copied."""


BOUND: Final = frozenset({DataClass.RAW_EVENTS})
"""Classes that stay at their site unless a setting says that they may leave."""


class ResidencyError(SettingError):
    """Data that would leave the site it belongs to."""


def tags(classes: Collection[DataClass]) -> dict[str, str]:
    """The tag of a bucket that may hold these classes, and nothing else."""
    if not classes:
        raise ResidencyError("a bucket without a data class; nobody could say what may leave it: name its classes")
    return {TAG: SEPARATOR.join(sorted(classes))}


def classes(tag: str) -> frozenset[DataClass]:
    """The classes a tag names. Raises ResidencyError for one that is not known."""
    names = tag.split(SEPARATOR)
    unknown = sorted(set(names) - set(DataClass))
    if unknown:
        raise ResidencyError(f"{TAG} names {unknown[0]!r}; known are {', '.join(DataClass)}: use one of these")
    return frozenset(DataClass(name) for name in names)


def check_may_leave(held: Collection[DataClass], what: str, *, raw_events_may_leave: bool) -> None:
    """Nothing of `what` is bound to its site. Raises ResidencyError."""
    bound = sorted(BOUND & set(held))
    if bound and not raw_events_may_leave:
        raise ResidencyError(
            f"{what} holds {', '.join(bound)}, which stay at their site: copy another class, or set {SETTING}: true in"
            " the site's storage settings once whoever answers for the data agrees"
        )
