"""Golden health: the last result of a known question, asked in the background at a fixed pace.

Ill is not the same as busy: a golden question that Triton is too busy to answer changes nothing until the last good
result is stale. A wrong answer, or no server, turns health red at once. What was ill is well again only when it has
been right for a while without a break, so that DNS keeps out a site that comes and goes. Ready is what answers
rightly, held down or not: when no site is well, DNS leads users to all of them, and somebody has to be there.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np

from serving.inference import (
    Answer,
    BusyError,
    Inference,
    InferenceTimeoutError,
    Lane,
    ModelFailureError,
    UnreachableError,
    WrongAnswerError,
)
from serving.reference import Golden, Reference

COMPARED_ITEMS: Final = 10
STALE_INTERVALS: Final = 3
STARTING_PACE_SECONDS: Final = 0.5
DETAIL_LENGTH: Final = 300

log = logging.getLogger(__name__)


class Reason(StrEnum):
    """Why a gateway is not healthy."""

    STARTING = "starting"
    WRONG = "wrong"
    UNREACHABLE = "unreachable"
    STALE = "stale"
    HOLDING = "holding"
    DRAINING = "draining"


READY: Final = frozenset({None, Reason.HOLDING})


@dataclass(frozen=True)
class State:
    """Health at one moment; `reason` is None when healthy, `age_seconds` counts from the last good golden answer."""

    reason: Reason | None
    digest: str
    age_seconds: float | None
    detail: str

    @property
    def healthy(self) -> bool:
        """Whether users should be sent here."""
        return self.reason is None

    @property
    def ready(self) -> bool:
        """Whether whoever comes is answered rightly: a gateway that is held down does that too."""
        return self.reason in READY

    def body(self, token: str, site: str, shed: int = 0) -> bytes:
        """What /healthz says: the token comes first in a healthy body and stands in no other.

        `shed` is how many requests were turned away lately: that is busy, and busy is not ill.
        """
        document: dict[str, Any] = {"status": token} if self.healthy else {"status": "ill", "reason": self.reason}
        document |= {"busy": shed > 0, "shed": shed}
        age = None if self.age_seconds is None else round(self.age_seconds, 3)
        document |= {"digest": self.digest, "age_seconds": age, "site": site}
        if self.detail:
            document["detail"] = self.detail[:DETAIL_LENGTH]
        text = json.dumps(document)
        return (text if self.healthy else text.replace(token, "")).encode()


class GoldenHealth:
    """Asks the golden question and remembers how that went."""

    def __init__(
        self,
        inference: Inference,
        references: Mapping[str, Reference],
        *,
        backend: str,
        interval_seconds: float,
        deadline_seconds: float,
        hold_down_seconds: float = 0.0,
        count_wrong: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inference = inference
        self._references = references
        self._backend = backend
        self._interval_seconds = interval_seconds
        self._patience_seconds = STALE_INTERVALS * interval_seconds
        self._hold_down_seconds = hold_down_seconds
        self._deadline_seconds = deadline_seconds
        self._count_wrong = count_wrong
        self._clock = clock
        self._digest = next(iter(references))
        self._started = clock()
        self._good: float | None = None
        self._right_since: float | None = None
        self._fault: Reason | None = None
        self._held = False
        self._detail = "no golden answer yet"
        self._draining = False

    @property
    def state(self) -> State:
        """Health now, without asking anything."""
        now = self._clock()
        age = None if self._good is None else now - self._good
        reason: Reason | None = None
        detail = self._detail
        if self._draining:
            reason = Reason.DRAINING
        elif self._fault is Reason.WRONG:
            reason = Reason.WRONG
        elif self._good is None and now - self._started <= self._patience_seconds:
            reason = Reason.STARTING
        elif self._fault is not None:
            reason = self._fault
        elif age is None or age > self._patience_seconds:
            reason = Reason.STALE
        elif self._held and self._hold_down_seconds > 0:
            reason = Reason.HOLDING
            detail = f"right for {self._right_seconds:.1f} s, must be for {self._hold_down_seconds:g} s"
        return State(reason, self._digest, age, detail)

    async def run(self) -> None:
        """Ask for ever, at a fixed pace; until the first good answer at a faster one."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        said: Reason | None = Reason.STARTING
        while True:
            await self.check()
            state = self.state
            if state.reason != said:
                log.log(
                    logging.INFO if state.healthy else logging.WARNING,
                    "health: %s %s",
                    state.reason or "healthy",
                    state.detail,
                )
                said = state.reason
            pace = self._interval_seconds
            if self._good is None:
                pace = min(pace, STARTING_PACE_SECONDS)
            due = max(due + pace, loop.time())
            await asyncio.sleep(due - loop.time())

    async def check(self) -> None:
        """Ask the golden question once."""
        try:
            answer = await self._inference.ask(
                lambda digest: self._references[digest].golden.histories,
                deadline_seconds=self._deadline_seconds,
                lane=Lane.GOLDEN,
            )
        except (BusyError, InferenceTimeoutError) as error:
            self._detail = str(error)
            # Busy is no news about right or wrong. That the server was away is over, though: it was there to be busy.
            if isinstance(error, BusyError) and self._fault is Reason.UNREACHABLE and self._good is not None:
                self._fault = None
        except UnreachableError as error:
            if self._fault is not Reason.WRONG:
                self._fall(Reason.UNREACHABLE, str(error))
        except (WrongAnswerError, ModelFailureError) as error:
            self.accuse(str(error))
        except Exception as error:  # the lane must outlive whatever a server can send
            log.exception("golden question")
            self.accuse(f"{type(error).__name__}: {error}")
        else:
            self._judge(answer)

    def accuse(self, detail: str) -> None:
        """Somebody saw a wrong answer: red until the next golden answer is right."""
        # Red may be over before a scraper looks; what was counted is still there.
        self._count_wrong()
        self._fall(Reason.WRONG, detail)

    def drain(self) -> None:
        """Say from now on that this gateway is about to leave."""
        self._draining = True

    def _judge(self, answer: Answer) -> None:
        reference = self._references.get(answer.digest)
        if reference is None:
            self.accuse(f"{answer.digest} answered, which is not accepted here")
            return
        fault = difference(reference.golden, answer, self._backend)
        if fault is not None:
            self.accuse(f"golden answer of {answer.digest}: {fault}")
            return
        now = self._clock()
        if self._good is not None and now - self._good > self._patience_seconds:
            self._fall(Reason.STALE, "")
        self._digest, self._good, self._fault, self._detail = answer.digest, now, None, ""
        if self._right_since is None:
            self._right_since = now
        if self._right_seconds >= self._hold_down_seconds:
            self._held = False

    def _fall(self, fault: Reason, detail: str) -> None:
        """A fault; what has been well once is held down from now on."""
        self._fault, self._detail = fault, detail
        self._held, self._right_since = self._good is not None, None

    @property
    def _right_seconds(self) -> float:
        """How long golden answers have been right without a break, up to the last of them."""
        return 0.0 if self._right_since is None or self._good is None else self._good - self._right_since


def difference(golden: Golden, answer: Answer, backend: str) -> str | None:
    """What tells an answer from the golden one in its best ten items; None when nothing does.

    The same items, each score within the backend's tolerance of its golden score (relative above 1), all finite, best
    first. Order is judged through the scores, so two items that tie within the tolerance may change places.
    """
    tolerance = golden.tolerance.get(backend)
    if tolerance is None:
        return f"no tolerance for backend {backend!r}, only for {sorted(golden.tolerance)}; set BACKEND to one of these"
    compared = min(COMPARED_ITEMS, golden.items.shape[1])
    if answer.items.shape[0] != golden.items.shape[0] or answer.items.shape[1] < compared:
        return f"shape {answer.items.shape}, expected at least {(golden.items.shape[0], compared)}"
    for row in range(golden.items.shape[0]):
        items, scores = answer.items[row, :compared].tolist(), answer.scores[row, :compared].astype(float)
        if not np.isfinite(scores).all():
            return "scores that are not finite"
        wanted = dict(zip(golden.items[row].tolist(), golden.scores[row].tolist(), strict=True))
        if set(items) != set(golden.items[row, :compared].tolist()):
            return f"items {items}, expected {golden.items[row, :compared].tolist()}"
        for item, score in zip(items, scores.tolist(), strict=True):
            allowed = tolerance * max(1.0, abs(wanted[item]))
            if abs(score - wanted[item]) > allowed:
                return f"item {item} scores {score:.6g}, expected {wanted[item]:.6g} within {allowed:.2g}"
        if (np.diff(scores) > 0).any():
            return "not best first"
    return None
