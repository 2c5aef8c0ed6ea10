"""A mark stands in every store that counts and in the site's own; a store that is away is told, never guessed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from signals import SignalError, marks
from stacks.contract import DRAIN_TOKEN, drain_key
from tests.signals import signal_stage


def body_in(stores: signal_stage.Stores, site: str, key: str) -> bytes | None:
    listed = signal_stage.client(stores.endpoint).list_objects_v2(Bucket=f"signals-{site}").get("Contents", [])
    if key not in [each["Key"] for each in listed]:
        return None
    return signal_stage.client(stores.endpoint).get_object(Bucket=f"signals-{site}", Key=key)["Body"].read()


def test_a_mark_lies_in_every_drain_store_and_in_the_sites_own_and_begins_with_the_token(
    stores: signal_stage.Stores,
) -> None:
    deployment = signal_stage.a_deployment(stores.outputs())
    results = marks.mark(deployment, "private", who="ada", why="new switches")
    assert [(each.store, each.counts, each.error) for each in results] == [
        ("private", False, None),
        ("public", True, None),
        ("third", True, None),
    ]
    for site in signal_stage.SITES:
        body = body_in(stores, site, "drain/private")
        assert body is not None
        assert body.startswith(DRAIN_TOKEN.encode()), "a checker reads the first bytes only"
        said = json.loads(body.partition(b"\n")[2])
        assert (said["who"], said["why"]) == ("ada", "new switches")
    assert [each.store for each in marks.counting(marks.read(deployment, "private"))] == ["public", "third"]
    assert not marks.counting(marks.read(deployment, "public")), "another site's mark is not this one's"


def test_a_shadow_mark_is_an_object_of_its_own(stores: signal_stage.Stores) -> None:
    deployment = signal_stage.a_deployment(stores.outputs())
    marks.mark(deployment, "private", who="ada", why="drill", shadow=True)
    assert body_in(stores, "public", "drain/private.shadow")
    assert body_in(stores, "public", "drain/private") is None
    marks.unmark(deployment, "private", shadow=True)
    assert body_in(stores, "public", drain_key("private", shadow=True)) is None


def test_a_store_that_is_away_is_named_and_the_others_are_marked_all_the_same(stores: signal_stage.Stores) -> None:
    deployment = signal_stage.a_deployment(stores.outputs("third"))
    results = marks.mark(deployment, "private", who="ada", why="")
    assert [each.store for each in marks.counting(results)] == ["public"]
    away = marks.unknown(results)
    assert [each.store for each in away] == ["third"]
    assert "no answer" in str(away[0].error)


def test_unmarking_tells_which_store_may_still_hold_a_mark(stores: signal_stage.Stores) -> None:
    marks.mark(signal_stage.a_deployment(stores.outputs()), "private", who="ada", why="")
    cut = signal_stage.a_deployment(stores.outputs("third"))
    results = marks.unmark(cut, "private")
    assert [each.store for each in marks.unknown(results)] == ["third"]
    assert body_in(stores, "public", "drain/private") is None
    assert body_in(stores, "third", "drain/private"), "it would drain the site again when that store is back"
    assert not marks.unknown(marks.unmark(signal_stage.a_deployment(stores.outputs()), "private"))
    assert not marks.counting(marks.read(signal_stage.a_deployment(stores.outputs()), "private"))


def test_an_object_without_the_token_is_no_mark_and_one_written_by_hand_is(stores: signal_stage.Stores) -> None:
    deployment = signal_stage.a_deployment(stores.outputs())
    s3 = signal_stage.client(stores.endpoint)
    s3.put_object(Bucket="signals-public", Key="drain/private", Body=b"<html>all is well</html>")
    assert not marks.counting(marks.read(deployment, "private"))
    s3.put_object(Bucket="signals-public", Key="drain/private", Body=f"{DRAIN_TOKEN} by hand".encode())
    found = marks.counting(marks.read(deployment, "private"))
    assert found[0].mark is not None
    assert found[0].mark.who == "unknown"


def test_a_mark_of_a_site_that_was_taken_away_is_found_and_removed_in_every_store(stores: signal_stage.Stores) -> None:
    deployment = signal_stage.a_deployment(stores.outputs())
    marks.mark(deployment, "private", who="ada", why="taken away")
    left = {site: each for site, each in deployment.traffic.sites.items() if site != "private"}
    without = replace(deployment, traffic=replace(deployment.traffic, sites=left))
    found = marks.read(without, "private")
    assert [each.store for each in found if each.mark] == ["private", "public", "third"]
    assert not marks.counting(found), "there is nobody it could keep away"
    marks.unmark(without, "private")
    with pytest.raises(SignalError, match="site 'private' is not in lab; the sites are public, third"):
        marks.read(without, "private")
    with pytest.raises(SignalError, match="site 'private' is not in lab"):
        marks.mark(without, "private", who="ada", why="")
    assert not any(body_in(stores, site, "drain/private") for site in signal_stage.SITES)


def test_an_unknown_site_and_a_site_without_drain_stores_are_refused(stores: signal_stage.Stores) -> None:
    deployment = signal_stage.a_deployment(stores.outputs())
    with pytest.raises(SignalError, match="site 'nowhere' is not in lab; the sites are private, public, third"):
        marks.mark(deployment, "nowhere", who="", why="")
    bare = replace(deployment.traffic.sites["private"], drain_stores=[])
    lacking = replace(
        deployment, traffic=replace(deployment.traffic, sites={**deployment.traffic.sites, "private": bare})
    )
    with pytest.raises(SignalError, match="drain_stores of private are none"):
        marks.read(lacking, "private")


def test_a_bucket_that_is_not_there_is_said_so(stores: signal_stage.Stores) -> None:
    outputs = stores.outputs()
    outputs["third"] = replace(outputs["third"], signal_bucket="never-made")
    results = marks.read(signal_stage.a_deployment(outputs), "private")
    assert "there is no such bucket" in str(marks.unknown(results)[0].error)
