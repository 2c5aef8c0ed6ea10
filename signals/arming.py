"""Armed drills: a token that lasts for minutes says who may disturb what, and who else agreed.

It is the object `drills/arming/<token>` in every signal bucket that answers. Names are what the machines say of their
users; what keeps strangers out is the right to write to the buckets.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from signals import SignalError
from signals.store import SignalStore

MINUTES: Final = range(1, 241)


@dataclass(frozen=True)
class Armed:
    """A token as it stands in the stores."""

    token: str
    env: str
    level: str
    drill: str
    site: str
    """The one it may disturb."""
    who: str
    until: str
    """ISO 8601, UTC."""
    approved_by: str = ""
    """A second person, where somebody agreed."""

    @property
    def key(self) -> str:
        """Its object."""
        return f"drills/arming/{self.token}"

    def expired(self, now: datetime | None = None) -> bool:
        """Whether its time is over."""
        return (now or datetime.now(UTC)) >= datetime.fromisoformat(self.until)


def arm(
    stores: Sequence[SignalStore],
    *,
    env: str,
    level: str,
    drill: str,
    site: str,
    minutes: int,
    who: str,
    now: datetime | None = None,
) -> Armed:
    """A new token. Raises SignalError when no store takes it."""
    if minutes not in MINUTES:
        raise SignalError(f"minutes is {minutes}; a token lasts {MINUTES.start} to {MINUTES.stop - 1}: choose less")
    until = (now or datetime.now(UTC)) + timedelta(minutes=minutes)
    armed = Armed(secrets.token_hex(4), env, level, drill, site, who, until.isoformat(timespec="seconds"))
    _write(stores, armed, new=True)
    return armed


def approve(stores: Sequence[SignalStore], token: str, *, who: str, now: datetime | None = None) -> Armed:
    """The token with a second person's word. Raises SignalError: unknown, expired, or the same person."""
    armed = read(stores, token)
    if armed.expired(now):
        raise SignalError(f"token {token} was good until {armed.until}; arm the drill again")
    if armed.who.partition("@")[0] == who.partition("@")[0]:
        raise SignalError(f"{who} armed token {token}; a second person has to approve it")
    approved = replace(armed, approved_by=who)
    _write(stores, approved, new=False)
    return approved


def read(stores: Sequence[SignalStore], token: str) -> Armed:
    """The token from the first store that has it. Raises SignalError when none does."""
    silent: list[str] = []
    for store in stores:
        try:
            found = store.get(f"drills/arming/{token}")
        except SignalError as error:
            silent.append(str(error))
            continue
        if found is not None:
            try:
                return Armed(**json.loads(found.body))
            except (ValueError, TypeError) as error:
                raise SignalError(f"{store.place(token)}: no token of this version ({error}); arm again") from error
    raise SignalError(f"token {token!r} is in no store; arm the drill first{': ' if silent else ''}{'; '.join(silent)}")


def _write(stores: Sequence[SignalStore], armed: Armed, *, new: bool) -> None:
    body = json.dumps(vars(armed), sort_keys=True).encode()
    refused: list[str] = []
    for store in stores:
        try:
            store.put(armed.key, body, new=new)
        except SignalError as error:
            refused.append(str(error))
    if len(refused) == len(stores):
        raise SignalError(f"no store took the token: {'; '.join(refused) or 'there is none'}")
