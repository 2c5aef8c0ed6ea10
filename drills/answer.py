"""What a right answer is: light to import, for the process the load runs in."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace

Ranking = tuple[str, ...]


@dataclass(frozen=True)
class Expectation:
    """The drill's requests, and what an answer to each has to be. Pickles with no more than that."""

    bodies: tuple[bytes, ...]
    rankings: dict[str, tuple[Ranking, ...]]
    """By model digest: the ranking for each body, as learned before anything was touched."""
    accepted: dict[str, tuple[str, ...]]
    """By declared site: the digests its answers may name."""
    first_heard: dict[tuple[str, int], Ranking] = field(default_factory=dict, compare=False)
    """What digests that are accepted, but were not learned, ranked first for each body."""

    def body(self, turn: int) -> bytes:
        """The request a virtual user sends at its n-th turn."""
        return self.bodies[turn % len(self.bodies)]

    def accepting(self, site: str, digest: str) -> Expectation:
        """The same, while a rollout brings one more digest to a site."""
        digests = tuple(dict.fromkeys((*self.accepted.get(site, ()), digest)))
        return replace(self, accepted={**self.accepted, site: digests})

    def judge(self, body: bytes, answer: bytes) -> str | None:
        """None for a right answer, else what is wrong with it.

        A digest that was not learned, as a rollout brings it, has to rank as many different items as the learned one
        does, and the same ones whenever it is asked the same again.
        """
        try:
            content = json.loads(answer)
            site, digest = content["site"], content["model_digest"]
            ranking = tuple(item["id"] for item in content["items"])
            finite = all(math.isfinite(item["score"]) for item in content["items"])
        except (ValueError, KeyError, TypeError) as error:
            return f"not an answer: {type(error).__name__} {error}"
        accepted = self.accepted.get(site)
        if accepted is None:
            return f"names the site {site!r}, which is not declared"
        if digest not in accepted:
            return f"{site} answered with {digest}, declared is {' or '.join(accepted)}"
        if not finite:
            return f"{site} answered with a score that is not finite"
        number = self.bodies.index(body)
        if digest in self.rankings:
            expected = self.rankings[digest][number]
        else:
            like = len(next(iter(self.rankings.values()))[number])
            if len(set(ranking)) != len(ranking) or len(ranking) != like:
                return f"{site} ranked {len(set(ranking))} different of {len(ranking)} items, expected {like}"
            expected = self.first_heard.setdefault((digest, number), ranking)
        if ranking != expected:
            return f"{site} ranked {ranking[:3]}..., expected {expected[:3]}..."
        return None
