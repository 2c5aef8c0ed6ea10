"""What counts as a right answer: of a declared site, of a digest it may name, ranked as that digest ranked before."""

import json
import pickle
from typing import Any

import pytest

from drills.answer import Expectation

OLD, NEW, OTHER = (f"sha256:{letter * 64}" for letter in "abc")
BODIES = (b'{"history":[]}', b'{"history":["x"]}')
RANKINGS = (("p", "q", "r"), ("q", "r", "s"))


def expectation() -> Expectation:
    return Expectation(BODIES, {OLD: RANKINGS}, {"private": (OLD,), "public": (NEW, OLD)})


def answer(**changed: Any) -> bytes:
    ranked = changed.pop("ranked", RANKINGS[0])
    items = [{"id": item, "score": 1.0} for item in ranked]
    return json.dumps({"site": "private", "model_digest": OLD, "items": items, **changed}).encode()


@pytest.mark.parametrize("site", ["private", "public"])
def test_every_digest_a_site_may_name_is_accepted(site: str) -> None:
    assert expectation().judge(BODIES[0], answer(site=site)) is None


@pytest.mark.parametrize(
    ("spoiled", "why"),
    [
        ({"site": "moon"}, "not declared"),
        ({"model_digest": NEW}, f"private answered with {NEW}, declared is {OLD}"),
        ({"site": "public", "model_digest": OTHER}, f"declared is {NEW} or {OLD}"),
        ({"ranked": ("q", "p", "r")}, "expected"),
        ({"ranked": ()}, "expected"),
        ({"items": [{"id": "p", "score": float("nan")}]}, "not finite"),
        ({"items": None}, "not an answer"),
        ({"model_digest": None}, "answered with None"),
        ({"model_digest": ["a"]}, "answered with"),
    ],
    ids=["site", "digest", "no digest of this site", "order", "empty", "score", "no items", "none", "no text"],
)
def test_a_spoiled_answer_is_told_from_a_right_one(spoiled: dict[str, Any], why: str) -> None:
    assert why in (expectation().judge(BODIES[0], answer(**spoiled)) or "")


def test_an_answer_to_another_question_is_wrong() -> None:
    assert "expected" in (expectation().judge(BODIES[1], answer()) or "")


def test_a_digest_a_rollout_brings_has_to_agree_with_itself() -> None:
    judge = expectation().judge
    new = {"site": "public", "model_digest": NEW}
    assert judge(BODIES[0], answer(**new, ranked=("s", "t", "u"))) is None
    assert judge(BODIES[0], answer(**new, ranked=("s", "t", "u"))) is None
    assert "expected ('s', 't', 'u')" in (judge(BODIES[0], answer(**new, ranked=("t", "s", "u"))) or "")
    assert "2 different of 3 items, expected 3" in (judge(BODIES[1], answer(**new, ranked=("s", "s", "u"))) or "")
    assert "expected 3" in (judge(BODIES[1], answer(**new, ranked=("s",))) or "")


def test_a_rollout_s_digest_is_accepted_only_where_it_was_announced() -> None:
    rolling = expectation().accepting("private", NEW)
    assert rolling.judge(BODIES[0], answer(model_digest=NEW)) is None
    assert rolling.judge(BODIES[0], answer()) is None
    assert expectation().judge(BODIES[0], answer(model_digest=NEW)) is not None


def test_it_travels_to_the_load_s_process_with_nothing_else() -> None:
    sent = pickle.dumps((expectation().body, expectation().judge))
    body, judge = pickle.loads(sent)  # noqa: S301  ours
    assert judge(body(0), answer()) is None
    assert len(sent) < 2000
