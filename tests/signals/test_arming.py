"""A token that lasts for minutes: who armed, who agreed, and every way it does not count."""

from __future__ import annotations

import os
import pwd
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from signals import SignalError
from signals.arming import Armed, approve, arm, read
from signals.holder import person
from tests.signals.signal_stage import Stores

pytestmark = pytest.mark.live

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def armed(stores: Stores, *cut: str, minutes: int = 30) -> Armed:
    return arm(
        stores.stores(*cut),
        env="prod",
        level="live",
        drill="drain",
        site="private",
        minutes=minutes,
        who="ann@desk",
        now=NOW,
    )


def test_a_token_is_read_back_from_any_store_as_it_was_written(stores: Stores) -> None:
    token = armed(stores)
    for site in ("private", "public"):
        assert read(stores.stores(only=(site,)), token.token) == token
    assert (token.env, token.level, token.drill, token.site, token.who, token.approved_by) == (
        "prod",
        "live",
        "drain",
        "private",
        "ann@desk",
        "",
    )
    assert token.until == "2026-11-22T12:30:00+00:00"
    assert token.key == f"drills/arming/{token.token}"


def test_two_tokens_are_never_the_same(stores: Stores) -> None:
    assert armed(stores).token != armed(stores).token


def test_a_token_is_good_until_its_time_is_over(stores: Stores) -> None:
    token = armed(stores)
    assert not token.expired(NOW + timedelta(minutes=29, seconds=59))
    assert token.expired(NOW + timedelta(minutes=30))
    assert replace(token, until="2020-01-01T00:00:00+00:00").expired()


@pytest.mark.parametrize("minutes", [0, -1, 241])
def test_a_token_lasts_for_minutes_and_not_for_days(stores: Stores, minutes: int) -> None:
    with pytest.raises(SignalError, match=f"minutes is {minutes}; a token lasts 1 to 240"):
        armed(stores, minutes=minutes)


def test_a_second_person_agrees_and_every_store_knows(stores: Stores) -> None:
    token = armed(stores)
    approved = approve(stores.stores(), token.token, who="bob@desk", now=NOW)
    assert approved == replace(token, approved_by="bob@desk")
    for site in ("private", "public"):
        assert read(stores.stores(only=(site,)), token.token) == approved


@pytest.mark.parametrize("who", ["ann@desk", "ann@another-machine"])
def test_one_person_at_two_machines_is_still_one(stores: Stores, who: str) -> None:
    token = armed(stores)
    with pytest.raises(SignalError, match="a second person has to approve it"):
        approve(stores.stores(), token.token, who=who, now=NOW)
    assert read(stores.stores(), token.token).approved_by == ""


def test_what_has_expired_is_approved_by_nobody(stores: Stores) -> None:
    token = armed(stores, minutes=1)
    with pytest.raises(SignalError, match=r"was good until .*; arm the drill again"):
        approve(stores.stores(), token.token, who="bob@desk", now=NOW + timedelta(minutes=1))


def test_a_token_nobody_wrote_is_in_no_store(stores: Stores) -> None:
    with pytest.raises(SignalError, match=r"token 'feed' is in no store; arm the drill first$"):
        read(stores.stores(), "feed")


def test_one_store_that_is_away_stops_nobody(stores: Stores) -> None:
    token = armed(stores, "private")
    assert read(stores.stores("private"), token.token) == token
    assert read(stores.stores(), token.token) == token, "the first store was away and does not have it"


def test_a_store_that_missed_the_approval_errs_on_the_safe_side(stores: Stores) -> None:
    token = armed(stores)
    approve(stores.stores("private"), token.token, who="bob@desk", now=NOW)
    assert read(stores.stores(only=("private",)), token.token).approved_by == ""
    assert read(stores.stores(only=("public",)), token.token).approved_by == "bob@desk"


def test_with_every_store_away_nothing_is_armed_and_the_silence_is_told(stores: Stores) -> None:
    with pytest.raises(SignalError, match="no store took the token: private"):
        armed(stores, "private", "public")
    with pytest.raises(SignalError, match="in no store; arm the drill first: private"):
        read(stores.stores("private", "public"), "feed")


def test_what_another_version_wrote_is_no_token(stores: Stores) -> None:
    for body in (b"no JSON", b'{"token": "feed"}', b"[]"):
        stores.stores()[0].put("drills/arming/feed", body)
        with pytest.raises(SignalError, match="no token of this version"):
            read(stores.stores(), "feed")


def test_a_person_is_the_machines_user_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "a-second-person")
    name, _, machine = person().partition("@")
    assert name == pwd.getpwuid(os.getuid()).pw_name
    assert machine
