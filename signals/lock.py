"""The one lock of an environment: whoever changes it, by `up` or by a drill, holds it in every store that answers.

It is the object `locks/environment`, written conditionally, renewed while its holder lives, and free again when it is
given back, when it was not renewed for its lease, or when its process died on the machine that asks. A store that does
not answer is left out and said so; one store at least has to answer. Two holders are possible only when each reaches
none of the stores the other reaches. On one machine a file is locked as well, so that nothing is needed there.
"""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from signals import ChangedError, LockedError, NoBucketError, SignalError, StoreUnreachableError
from signals.holder import Holder
from signals.store import SignalStore

KEY: Final = "locks/environment"
LEASE_SECONDS: Final = 60.0
RENEWALS_PER_LEASE: Final = 4
_TRIES: Final = 5

Say = Callable[[str], None]


class EnvironmentLock:
    """The lock while it is held; renewed by a thread until it is released."""

    def __init__(self, env: str, purpose: str, *, lease_seconds: float = LEASE_SECONDS, say: Say, lost: Say) -> None:
        self.lost = ""
        """Why it is no longer ours; empty while it is."""
        self.holder = Holder.me(env, purpose, lease_seconds)
        self._etags: dict[SignalStore, str] = {}
        self._renewed = time.monotonic()
        self._say = say
        self._on_loss = lost
        self._turn = threading.Lock()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def sites(self) -> list[str]:
        """Sites in whose store it is held."""
        return sorted(store.site for store in self._etags)

    def take(self, stores: Sequence[SignalStore]) -> None:
        """Take it in every store that answers and is not held yet: all are read before any is written.

        Raises LockedError when somebody else has it, SignalError when stores are there and none answers.
        """
        silent: list[SignalError] = []
        wanted = [store for store in sorted(stores, key=lambda each: each.site) if store.site not in self.sites]
        # A holder that cannot reach one store for its lease has it still in another: nothing of its is overwritten.
        free = self._each(wanted, self._look, silent)
        try:
            self._each(free, self._occupy, silent)
        except LockedError:
            self._give_back(wanted)
            raise
        if silent and not self._etags:
            raise SignalError(
                f"the lock of {self.holder.env} cannot be taken, no store answers:"
                f" {'; '.join(map(str, silent))}; at least one has to: see that it does, or go on without the lock"
                " when you know that nobody else works on this environment"
            )
        for each in silent:
            self._say(f"the lock is not held in every store: {each}")
        if self._etags and self._thread is None:
            self._renewed = time.monotonic()
            self._thread = threading.Thread(target=self._renew_for_ever, name="lock renewal", daemon=True)
            self._thread.start()

    def _each(
        self, stores: Sequence[SignalStore], work: Callable[[SignalStore], None], silent: list[SignalError]
    ) -> list[SignalStore]:
        """Do it with each; those that have a bucket and answered. Those that did not are added to `silent`."""
        answered = []
        for store in stores:
            try:
                work(store)
                answered.append(store)
            except NoBucketError:
                continue
            except StoreUnreachableError as error:
                silent.append(error)
        return answered

    def _look(self, store: SignalStore) -> None:
        """Raises LockedError when somebody else has it there."""
        found = store.get(KEY)
        if found is None:
            return
        standing = Holder.parse(found.body, self.holder.lease_seconds)
        if standing.token != self.holder.token and not standing.free(found):
            raise LockedError(refusal(standing, self.holder.env, store.site))

    def _occupy(self, store: SignalStore) -> None:
        with self._turn:
            self._etags[store] = self._write(store)

    def _write(self, store: SignalStore) -> str:
        for _ in range(_TRIES):
            found = store.get(KEY)
            with suppress(ChangedError):
                if found is None:
                    return store.put(KEY, self.holder.body(), new=True)
                standing = Holder.parse(found.body, self.holder.lease_seconds)
                if standing.token == self.holder.token and not standing.released:
                    return found.etag  # written by a try whose answer was lost
                if not standing.free(found):
                    raise LockedError(refusal(standing, self.holder.env, store.site))
                return store.put(KEY, self.holder.body(), instead_of=found.etag)
        raise LockedError(f"{store.place(KEY)}: others keep taking it; try again")

    def stand_still(self, seconds: float) -> None:
        """Renew once for so long and write nothing more: for whoever is about to delete the stores."""
        self._end.set()
        with self._turn:
            self.holder = self.holder.renewed(seconds)
            self._renew()

    def _renew_for_ever(self) -> None:
        while not self._end.wait(self.holder.lease_seconds / RENEWALS_PER_LEASE):
            with self._turn:
                if self._end.is_set():
                    return
                self.holder = self.holder.renewed()
                self._renew()
            if self.lost:
                self._on_loss(self.lost)
                return

    def _renew(self) -> None:
        for store, etag in list(self._etags.items()):
            try:
                self._etags[store] = self._rewrite(store, etag)
                self._renewed = time.monotonic()
            except NoBucketError:
                del self._etags[store]
            except ChangedError as error:
                self.lost = str(error)
            except SignalError as error:
                if time.monotonic() - self._renewed > self.holder.lease_seconds:
                    self.lost = f"the lock could not be renewed for its lease and may be somebody else's: {error}"

    def _rewrite(self, store: SignalStore, etag: str) -> str:
        """Write the lock as it is now over the one that was ours. Raises ChangedError when that is not there."""
        try:
            return store.put(KEY, self.holder.body(), instead_of=etag)
        except ChangedError:
            found = store.get(KEY)
            if found is None:
                raise ChangedError(f"{store.place(KEY)}: the lock was removed") from None
            standing = Holder.parse(found.body, self.holder.lease_seconds)
            if standing.token != self.holder.token or standing.released:
                raise ChangedError(f"{store.place(KEY)}: the lock was taken: {standing}") from None
            return store.put(KEY, self.holder.body(), instead_of=found.etag)

    def _give_back(self, stores: Sequence[SignalStore]) -> None:
        """In these it is nobody's from now on."""
        with self._turn:
            kept, self.holder = self.holder, self.holder.let_go()
            for store in stores:
                if (etag := self._etags.pop(store, None)) is None:
                    continue
                try:
                    self._rewrite(store, etag)
                except (NoBucketError, ChangedError):
                    continue
                except SignalError as error:
                    self._say(f"the lock was not given back and lapses after {self.holder.lease_seconds:g} s: {error}")
            self.holder = kept

    def release(self) -> None:
        """Give it back wherever it is still ours; a store that does not answer lets it lapse."""
        self._end.set()
        self._give_back(list(self._etags))
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(10.0)


@contextmanager
def hold(
    env: str,
    folder: Path,
    stores: Sequence[SignalStore],
    purpose: str,
    *,
    lease_seconds: float = LEASE_SECONDS,
    say: Say = lambda _: None,
    lost: Say = lambda _: None,
) -> Iterator[EnvironmentLock]:
    """Hold the environment: on this machine through `folder`, everywhere through the stores. Raises LockedError.

    `lost` is called from another thread when the lock is taken away: end the work then. With no store at all, because
    none was ever brought up, the machine's own lock is all there is; `take` adds stores that have come up.
    """
    lock = EnvironmentLock(env, purpose, lease_seconds=lease_seconds, say=say, lost=lost)
    with _only_here(folder, lock.holder):
        try:
            lock.take(stores)
            yield lock
        finally:
            lock.release()


@contextmanager
def _only_here(folder: Path, holder: Holder) -> Iterator[None]:
    """The machine's own lock; the kernel lets go of it when its holder dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "environment.lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            standing = Holder.parse(file.read().encode(), LEASE_SECONDS)
            raise LockedError(refusal(standing, holder.env, "this machine")) from error
        _note(file, holder.body().decode())
        try:
            yield
        finally:
            _note(file, "")


def here(folder: Path) -> Holder | None:
    """Who holds the environment on this machine; None when nobody does."""
    try:
        with (folder / "environment.lock").open(encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return Holder.parse(file.read().encode(), LEASE_SECONDS)
    except FileNotFoundError:
        pass
    return None


def _note(file: IO[str], text: str) -> None:
    file.truncate(0)
    file.write(text)
    file.flush()


def refusal(standing: Holder, env: str, where: str) -> str:
    """Who has the lock, for somebody who wanted it."""
    return (
        f"{env} is locked by {standing} ({where}); one works on an environment at a time: wait until that has ended,"
        f" or, when you know that it is gone: tandem lock break --env {env}"
    )


@dataclass(frozen=True)
class Standing:
    """The lock in one store."""

    site: str
    holder: Holder | None = None
    """Who has it; None where it is free or not known."""
    error: str = ""
    """Why that is not known."""
    past: Holder | None = field(default=None)
    """Who had it last, where it is free."""


def status(stores: Sequence[SignalStore], lease_seconds: float = LEASE_SECONDS) -> list[Standing]:
    """The lock in each store."""
    seen = []
    for store in stores:
        try:
            found = store.get(KEY)
        except SignalError as error:
            seen.append(Standing(store.site, error=str(error)))
            continue
        holder = None if found is None else Holder.parse(found.body, lease_seconds)
        free = holder is None or found is None or holder.free(found)
        seen.append(Standing(store.site, None if free else holder, past=holder if free else None))
    return seen


def break_open(stores: Sequence[SignalStore]) -> list[Standing]:
    """Give the lock back in its holder's stead, in every store that answers; whose it was.

    A holder that is still at work notices at its next renewal and ends.
    """
    broken = []
    for store in stores:
        try:
            found = store.get(KEY)
            if found is None:
                broken.append(Standing(store.site))
                continue
            holder = Holder.parse(found.body, LEASE_SECONDS)
            if not holder.released:
                store.put(KEY, holder.let_go().body(), instead_of=found.etag)
            broken.append(Standing(store.site, past=None if holder.released else holder))
        except SignalError as error:
            broken.append(Standing(store.site, error=str(error)))
    return broken
