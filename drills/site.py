"""Emptying a site for maintenance and filling it again: objects in stores, no record edited, no stack brought up.

Errors: DrillError
          RefusedError     the site may not be drained now; nothing was changed
          UnfinishedError  the mark stands or is gone as said, and what was waited for did not come
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from drills.drill import DrillError, Probe, ask_all, completed, failed
from drills.gateways import Traffic
from drills.headroom import headroom
from drills.measure import detection_seconds
from drills.probes import DnsHealth, DnsNames, GoldenAnswer, PodsReady
from signals import marks
from signals.marks import InStore
from stacks.contract import Deployment, TrafficOutputs

GRACE_SECONDS: Final = 5.0
CONNECTIONS_SECONDS: Final = 40.0
"""An idle connection that is never used again lives as long as the gateway keeps it: 30 s."""
PATIENCE_SECONDS: Final = 300.0
"""How long a site may take to be well for its hold-down without a break."""
PAUSE_SECONDS: Final = 0.5
YIELD_SECONDS: Final = 10.0
"""For a drain of another site that began at the same time to give way."""

Say = Callable[[str], None]


class RefusedError(DrillError):
    """The site may not be drained now; nothing was changed."""


class UnfinishedError(DrillError):
    """What was waited for did not come; the message says what state things are in."""


@dataclass
class Course:
    """How far a drain or a restore got; seconds count from the moment the marks were written or removed."""

    site: str
    shadow: bool = False
    headroom: str = ""
    stores: list[str] = field(default_factory=list)
    """Stores that were written to, or cleared."""
    unreachable: list[str] = field(default_factory=list)
    dns_seconds: float | None = None
    requests_seconds: float | None = None
    """Until the last request of a user."""
    connections_seconds: float | None = None
    well_seconds: float | None = None
    """How long the site was watched before its mark was removed."""

    def document(self) -> dict[str, Any]:
        """For JSON output."""
        return {key: round(value, 2) if isinstance(value, float) else value for key, value in vars(self).items()}


def _restore(deployment: Deployment, site: str, course: Course) -> str:
    """What to type to take a mark back."""
    return f"tandem site restore {site} --env {deployment.env}{' --shadow' if course.shadow else ''}"


def dns_bound_seconds(traffic: TrafficOutputs) -> float:
    """Until no answer that anybody still holds leads to a site, from its mark on."""
    return detection_seconds(traffic) + traffic.ttl_seconds + GRACE_SECONDS


async def drain(
    deployment: Deployment,
    site: str,
    *,
    who: str,
    why: str = "",
    shadow: bool = False,
    force: bool = False,
    connections_seconds: float = CONNECTIONS_SECONDS,
    say: Say = lambda _: None,
) -> Course:
    """Lead everybody away from a site and wait until it is empty. Raises RefusedError, UnfinishedError.

    `force` goes without headroom and with an ill site among the others, never with the last one that is well.
    """
    course = Course(site, shadow)
    await _admit(deployment, course, force=force, say=say)
    written = await completed(
        asyncio.ensure_future(asyncio.to_thread(marks.mark, deployment, site, who=who, why=why, shadow=shadow))
    )
    marked = time.monotonic()
    course.stores = [each.store for each in written if each.error is None]
    course.unreachable = [each.store for each in written if each.error is not None]
    for each in marks.unknown(written):
        say(f"no mark in the store of {each.store}: {each.error}")
    if not marks.counting(written):
        raise UnfinishedError(
            f"no store that counts for {site} took the mark: DNS still leads users there;"
            f" it may stand in {', '.join(course.stores) or 'none'}: `{_restore(deployment, site, course)}` removes it"
        )
    await _leave_one(deployment, course, say)
    say(f"marked in {', '.join(course.stores)}; waiting until DNS leads nobody to {site}")
    try:
        await _emptied(deployment, course, marked, connections_seconds, say)
    except UnfinishedError as error:
        raise UnfinishedError(
            f"{error}; the mark stands: `{_restore(deployment, site, course)}` takes it back"
        ) from error
    return course


async def _admit(deployment: Deployment, course: Course, *, force: bool, say: Say) -> None:
    """Refuse to drain the last site that is well, then one whose load the others cannot carry."""
    site, shadow = course.site, course.shadow
    if site not in deployment.traffic.sites:
        raise RefusedError(
            f"site {site!r} is not declared; choose one of {', '.join(sorted(deployment.traffic.sites))}"
        )
    if shadow and not deployment.traffic.shadow_name:
        raise RefusedError(f"{deployment.env} has no shadow name; leave out --shadow, or set one in the traffic stack")
    receivers, troubles = await _others(deployment, site, shadow=shadow)
    for trouble in troubles:
        say(trouble)
    if not receivers:
        raise RefusedError(
            f"{site} is the last site that is well and not drained: {'; '.join(troubles) or 'there is no other'};"
            " nothing overrides that: make another one well first"
        )
    ill = [each for each in troubles if not each.endswith(_DRAINED)]
    if ill and not force:
        raise RefusedError(f"another site is not well: {'; '.join(ill)}; make it well, or take --force")
    if shadow:
        return
    room = await headroom(deployment, site, receivers)
    course.headroom = room.detail
    say(f"headroom: {room.detail}")
    if not room.held and not force:
        raise RefusedError(f"the others have no headroom: {room.detail}; wait, add capacity, or take --force")


async def _leave_one(deployment: Deployment, course: Course, say: Say) -> None:
    """Look again once the mark stands: another may have been drained meanwhile, and both together empty everything.

    Both may see each other. The one whose name comes later gives way at once, the other one waits for that and gives
    way itself when it does not come. Raises RefusedError; the mark is taken back then.
    """
    site, end = course.site, time.monotonic() + YIELD_SECONDS
    while True:
        receivers, troubles = await _others(deployment, site, shadow=course.shadow)
        drained = [each.removesuffix(f" {_DRAINED}") for each in troubles if each.endswith(_DRAINED)]
        if receivers or not drained:
            return
        if min(drained) < site or time.monotonic() > end:
            break
        say(f"{', '.join(drained)} was drained at the same time; waiting for that to give way")
        await asyncio.sleep(PAUSE_SECONDS)
    unmark = asyncio.to_thread(marks.unmark, deployment, site, shadow=course.shadow)
    left = marks.unknown(await completed(asyncio.ensure_future(unmark)))
    said = f"{', '.join(drained)} was drained at the same time, and {site} would be the last: {'; '.join(troubles)}"
    if left:
        raise UnfinishedError(
            f"{said}; its mark may be left in {', '.join(each.store for each in left)}:"
            f" `{_restore(deployment, site, course)}` removes it"
        )
    raise RefusedError(f"{said}; its mark is taken back: restore {drained[0]} first")


_DRAINED: Final = "is drained itself"


async def _others(deployment: Deployment, site: str, *, shadow: bool) -> tuple[list[str], list[str]]:
    """The other sites users can be led to, and what keeps them from the rest."""
    receivers, troubles = [], []
    for other in sorted(set(deployment.traffic.sites) - {site}):
        seen = await asyncio.to_thread(_marks, deployment, other, shadow=shadow)
        if marks.counting(seen):
            troubles.append(f"{other} {_DRAINED}")
            continue
        if faults := failed(await ask_all(_takes_users(deployment, other, shadow=shadow))):
            troubles.append(f"{other}: {'; '.join(map(str, faults))}")
        else:
            receivers.append(other)
    return receivers, troubles


def _takes_users(deployment: Deployment, site: str, *, shadow: bool) -> list[Probe]:
    """What holds of a site users are led to; asked of the site and of name servers, so that no cloud's API is needed.

    Nobody is led to a site of weight 0 while another is well: there the checkers' word has to do.
    """
    if deployment.traffic.sites[site].weight == 0:
        return [GoldenAnswer(deployment, site), DnsHealth(deployment, site)]
    return [GoldenAnswer(deployment, site), DnsNames(deployment, site, shadow=shadow)]


def _marks(deployment: Deployment, site: str, *, shadow: bool) -> list[InStore]:
    """Marks that keep the users in question away: the shadow's go by both kinds."""
    found = marks.read(deployment, site)
    return [*found, *marks.read(deployment, site, shadow=True)] if shadow else found


async def _emptied(deployment: Deployment, course: Course, marked: float, connections_seconds: float, say: Say) -> None:
    """Wait for DNS, then for the last request and the last connection. Raises UnfinishedError."""
    dns_end = marked + dns_bound_seconds(deployment.traffic)
    gone = DnsNames(deployment, course.site, leads=False, shadow=course.shadow)
    traffic = Traffic(deployment, course.site)
    while course.dns_seconds is None:
        asked = time.monotonic()
        observation = await gone.ask()
        if observation.held:
            course.dns_seconds = asked - marked
        elif asked > dns_end:
            raise UnfinishedError(f"after {asked - marked:.0f} s {observation}")
        else:
            if not course.shadow:
                await traffic.look()
            await asyncio.sleep(PAUSE_SECONDS)
    say(f"DNS leads nobody to {course.site} after {course.dns_seconds:.1f} s")
    if course.shadow:
        return
    end = dns_end + connections_seconds
    while not await traffic.look() or not traffic.empty:
        if time.monotonic() > end:
            raise UnfinishedError(f"{course.site} is not empty after {time.monotonic() - marked:.0f} s: {traffic}")
        await asyncio.sleep(PAUSE_SECONDS)
    course.requests_seconds = max(0.0, traffic.last_request - marked)
    course.connections_seconds = max(0.0, traffic.closed - marked)
    say(f"no request after {course.requests_seconds:.1f} s, no connection after {course.connections_seconds:.1f} s")


async def restore(
    deployment: Deployment,
    site: str,
    *,
    shadow: bool = False,
    patience_seconds: float = PATIENCE_SECONDS,
    say: Say = lambda _: None,
) -> Course:
    """Lead users to a drained site again once it has been well for its hold-down. Raises UnfinishedError.

    A store that cannot be asked may hold a mark that drains the site again when the store returns: that is unfinished.
    Of a site that was taken away only the marks are removed: another one of its name would begin drained.
    """
    course = Course(site, shadow)
    seen = await asyncio.to_thread(marks.read, deployment, site, shadow=shadow)
    if not any(each.mark or each.error for each in seen):
        say(f"{site} is not drained: no store holds a mark")
        return course
    if site not in deployment.traffic.sites:
        if left := await _unmarked(deployment, course):
            raise UnfinishedError(f"{site} is no site of {deployment.env} any more; not cleared: {left}")
        say(f"{site} is no site of {deployment.env} any more; no mark of it in {', '.join(course.stores)}")
        return course
    began = time.monotonic()
    await _well_for_hold_down(deployment, site, patience_seconds, say)
    course.well_seconds = time.monotonic() - began
    left = await _unmarked(deployment, course)
    removed = time.monotonic()
    if course.stores:
        say(f"no mark in {', '.join(course.stores)} any more; waiting until DNS leads to {site}")
    advice = (
        f"; not cleared: {left}: a mark there drains {site} again when that store returns:"
        f" `{_restore(deployment, site, course)}` again then"
        if left
        else ""
    )
    await _led_to(deployment, course, removed, advice)
    if course.dns_seconds is not None:
        say(f"DNS leads to {site} after {course.dns_seconds:.1f} s")
    if left:
        raise UnfinishedError(f"DNS leads to {site}{advice}")
    return course


async def _unmarked(deployment: Deployment, course: Course) -> str:
    """Take the marks out of the stores; those that may hold one still, and why, in words."""
    work = asyncio.to_thread(marks.unmark, deployment, course.site, shadow=course.shadow)
    cleared = await completed(asyncio.ensure_future(work))
    course.stores = [each.store for each in cleared if each.error is None]
    course.unreachable = [each.store for each in cleared if each.error is not None]
    return "; ".join(f"{each.store}: {each.error}" for each in marks.unknown(cleared))


async def _led_to(deployment: Deployment, course: Course, removed: float, advice: str) -> None:
    """Wait until DNS leads to the site; one of weight 0 gets nobody while another is well."""
    if deployment.traffic.sites[course.site].weight == 0:
        return
    leads = DnsNames(deployment, course.site, shadow=course.shadow)
    end = removed + dns_bound_seconds(deployment.traffic)
    while True:
        asked = time.monotonic()
        observation = await leads.ask()
        if observation.held:
            course.dns_seconds = asked - removed
            return
        if asked > end:
            raise UnfinishedError(f"the mark is removed, but after {asked - removed:.0f} s {observation}{advice}")
        await asyncio.sleep(PAUSE_SECONDS)


async def _well_for_hold_down(deployment: Deployment, site: str, patience_seconds: float, say: Say) -> None:
    """Wait until the site was well without a break for its hold-down. Raises UnfinishedError; nothing is changed."""
    wanted = deployment.serving[site].hold_down_seconds
    probes: list[Probe] = [GoldenAnswer(deployment, site), PodsReady(deployment, site)]
    say(f"watching {site} until it was well for {wanted} s without a break")
    began, since, told = time.monotonic(), None, ""
    while True:
        asked = time.monotonic()
        faults = failed(await ask_all(probes))
        if faults:
            since = None
        elif since is None:
            since = asked
        trouble = "; ".join(map(str, faults))
        if trouble and trouble != told:
            say(f"not well: {trouble}")
        told = trouble
        if since is not None and time.monotonic() - since >= wanted:
            return
        if asked - began > patience_seconds + wanted:
            raise UnfinishedError(
                f"{site} was not well for {wanted} s without a break within {asked - began:.0f} s:"
                f" {trouble or 'it flaps'}; it stays drained: make it well and restore it again"
            )
        await asyncio.sleep(PAUSE_SECONDS)
