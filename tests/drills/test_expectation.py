"""What is right is learned from the sites themselves; where they do not agree with themselves, nothing is."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from drills.drill import NotRun
from drills.expectation import REQUESTS, gather
from stacks.contract import Deployment
from tests.drills.answering import FIRST, Site, serving
from tests.drills.worlds import DIGEST, a_deployment

pytestmark = pytest.mark.live

NEWER = f"sha256:{'b' * 64}"
ITEMS = [f"item-{number}" for number in range(50)]


def deployed(port: int, *accepted: str) -> Deployment:
    """Both sites of the declaration are one server."""
    deployment = a_deployment(request_timeout_seconds=2.0)
    sites = {name: replace(end, address=FIRST, port=port) for name, end in deployment.traffic.sites.items()}
    serving_ = {
        name: replace(outputs, accepted_digests=[outputs.model_digest, *accepted])
        for name, outputs in deployment.serving.items()
    }
    return replace(deployment, serving=serving_, traffic=replace(deployment.traffic, sites=sites))


def ranks(digest: Callable[[], str], items: Callable[[], list[str]]) -> Callable[[bytes], bytes]:
    def answer(asked: bytes) -> bytes:
        ranked = [{"id": item, "score": 1.0} for item in items()[: json.loads(asked)["k"]]]
        return json.dumps({"site": "private", "model_digest": digest(), "items": ranked}).encode()

    return answer


def answer(**changed: Any) -> bytes:
    items = [{"id": item, "score": 1.0} for item in ITEMS[:10]]
    return json.dumps({"site": "public", "model_digest": DIGEST, "items": items, **changed}).encode()


async def test_what_both_sites_rank_alike_is_the_right_answer() -> None:
    async with serving(Site("private", body=ranks(lambda: DIGEST, lambda: ITEMS)), FIRST) as port:
        expectation = await gather(deployed(port))
    assert len(expectation.bodies) == REQUESTS
    assert expectation.judge(expectation.body(3), answer()) is None
    assert "expected" in (expectation.judge(expectation.body(3), answer(items=[])) or "")
    assert "declared is" in (expectation.judge(expectation.body(3), answer(model_digest=NEWER)) or "")


async def test_a_digest_a_site_may_name_is_accepted_besides_the_served_one() -> None:
    async with serving(Site("private", body=ranks(lambda: DIGEST, lambda: ITEMS)), FIRST) as port:
        expectation = await gather(deployed(port, NEWER))
    assert expectation.judge(expectation.body(3), answer(model_digest=NEWER)) is None


@pytest.mark.parametrize(
    ("digests", "rankings", "accepted", "said"),
    [
        ([DIGEST], [ITEMS, ITEMS, ITEMS[::-1]], (), "ranks the same request differently"),
        ([NEWER], [ITEMS], (), f"answered with {NEWER}, declared is {DIGEST}"),
        ([DIGEST], [[]], (), "recommends nothing"),
        ([DIGEST, DIGEST, NEWER, NEWER, NEWER, DIGEST], [ITEMS], (NEWER,), "a rollout is under way"),
    ],
    ids=["two rankings", "another digest", "nothing to recommend", "two digests by turns"],
)
async def test_where_the_right_answer_is_not_known_no_drill_runs(
    digests: list[str], rankings: list[list[str]], accepted: tuple[str, ...], said: str
) -> None:
    digest, ranking = itertools.cycle(digests).__next__, itertools.cycle(rankings).__next__
    async with serving(Site("private", body=ranks(digest, ranking)), FIRST) as port:
        with pytest.raises(NotRun, match=said):
            await gather(deployed(port, *accepted))


@pytest.mark.parametrize(("status", "body"), [(503, b"{}"), (200, b"no JSON"), (200, b"{}"), (200, b'["items"]')])
async def test_a_site_that_gives_no_answer_teaches_nothing(status: int, body: bytes) -> None:
    async with serving(Site("private", status=status, body=lambda _: body), FIRST) as port:
        with pytest.raises(NotRun, match="private gave no answer to learn from"):
            await gather(deployed(port))
