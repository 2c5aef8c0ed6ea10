"""Drain marks: objects that keep users away from a site for as long as they are there.

A mark counts in every drain store of the site; one is enough. A copy lies in the site's own store, where its gateways
look, so that they ask users with open connections to come again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from signals import SignalError
from signals.store import SignalStore, stores_of
from stacks.contract import DRAIN_TOKEN, Deployment, drain_key


@dataclass(frozen=True)
class Mark:
    """Who drained a site, when and why."""

    site: str
    who: str
    when: str
    why: str
    shadow: bool

    def body(self) -> bytes:
        """The object: the token the health checks search for, then the rest for people."""
        return f"{DRAIN_TOKEN}\n{json.dumps(vars(self), sort_keys=True)}\n".encode()

    @classmethod
    def parse(cls, site: str, body: bytes, *, shadow: bool) -> Mark | None:
        """A mark out of its object; None where the token is missing, because then it drains nobody."""
        text = body.decode(errors="replace")
        if DRAIN_TOKEN not in text:
            return None
        try:
            said = json.loads(text.partition("\n")[2])
            return cls(site, str(said["who"]), str(said["when"]), str(said["why"]), shadow)
        except (ValueError, KeyError, TypeError):
            # Written by hand: it drains all the same.
            return cls(site, "unknown", "unknown", text[:200], shadow)


@dataclass(frozen=True)
class InStore:
    """What came of one store: an `error` means that it is not known what lies there."""

    store: str
    counts: bool
    """Whether a mark in this store keeps users away; false for the copy in the site's own."""
    mark: Mark | None
    error: str | None = None


def mark(deployment: Deployment, site: str, *, who: str, why: str, shadow: bool = False) -> list[InStore]:
    """Put the mark into every store of the site; what came of each. It counts once one store that counts has it."""
    drain_stores(deployment, site)
    wanted = Mark(site, who, datetime.now(UTC).isoformat(timespec="seconds"), why, shadow)

    def write(store: SignalStore) -> Mark:
        store.put(drain_key(site, shadow=shadow), wanted.body(), content_type="text/plain")
        return wanted

    return _in_each(deployment, site, write)


def unmark(deployment: Deployment, site: str, *, shadow: bool = False) -> list[InStore]:
    """Take the mark out of every store of the site.

    A store with an `error` may still hold one: it would drain the site again when that store returns.
    """
    return _in_each(deployment, site, lambda store: store.delete(drain_key(site, shadow=shadow)))


def read(deployment: Deployment, site: str, *, shadow: bool = False) -> list[InStore]:
    """What lies in every store of the site. Raises SignalError for a site that nobody declared and nobody marked."""

    def look(store: SignalStore) -> Mark | None:
        found = store.get(drain_key(site, shadow=shadow))
        return None if found is None else Mark.parse(site, found.body, shadow=shadow)

    seen = _in_each(deployment, site, look)
    if not any(each.mark for each in seen):
        drain_stores(deployment, site)
    return seen


def counting(results: list[InStore]) -> list[InStore]:
    """Those that keep users away."""
    return [each for each in results if each.counts and each.mark is not None]


def unknown(results: list[InStore]) -> list[InStore]:
    """Those that could not be asked."""
    return [each for each in results if each.error is not None]


def _in_each(deployment: Deployment, site: str, work: Callable[[SignalStore], Mark | None]) -> list[InStore]:
    """Do the work in the site's drain stores and its own, side by side: a dead store costs its timeout once.

    A mark of a site that was taken away may be left in any store, and counts nowhere until there is such a site again.
    """
    stores, counts = stores_of(deployment.storage), []
    if site in deployment.traffic.sites:
        counts = drain_stores(deployment, site)
        stores = [store for store in stores if store.site in {*counts, site}]

    def one(store: SignalStore) -> InStore:
        try:
            return InStore(store.site, store.site in counts, work(store))
        except SignalError as error:
            return InStore(store.site, store.site in counts, None, str(error))

    with ThreadPoolExecutor(max(1, len(stores))) as pool:
        return list(pool.map(one, stores))


def drain_stores(deployment: Deployment, site: str) -> list[str]:
    """Sites in whose store a mark of this site counts. Raises SignalError for a site or store nobody declared."""
    sites: Mapping[str, object] = deployment.traffic.sites
    if site not in sites:
        raise SignalError(f"site {site!r} is not in {deployment.env}; the sites are {', '.join(sorted(sites))}")
    stores = deployment.traffic.sites[site].drain_stores
    if not stores or set(stores) - set(deployment.storage):
        raise SignalError(
            f"drain_stores of {site} are {stores or 'none'}; each has to be a site with a storage stack:"
            f" set signal_stores of traffic.{deployment.env} and bring it up"
        )
    return stores
