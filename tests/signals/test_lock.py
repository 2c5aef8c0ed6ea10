"""One holder at a time, across machines and on one; a dead one does not lock anybody out for longer than its lease."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from signals import LockedError, SignalError, lock
from signals.holder import Holder
from signals.store import SignalStore
from tests.signals import signal_stage

ROOT = Path(__file__).resolve().parents[2]


def written(stores: signal_stage.Stores, holder: Holder, *sites: str) -> None:
    for site in sites:
        signal_stage.client(stores.endpoint).put_object(Bucket=f"signals-{site}", Key=lock.KEY, Body=holder.body())


def elsewhere(purpose: str = "drill switchover", **changes: object) -> Holder:
    """A holder on another machine."""
    return replace(Holder.me("lab", purpose, 60.0), owner="eve@far 7", process="another-boot/1/7:1", **changes)


def until(condition: object, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


def test_a_second_holder_is_told_who_has_it_since_when_until_when_and_the_way_out(
    stores: signal_stage.Stores, tmp_path: Path
) -> None:
    with (
        lock.hold("lab", tmp_path / "one", stores.stores(), "up") as held,
        pytest.raises(LockedError) as refused,
        lock.hold("lab", tmp_path / "two", stores.stores(), "drill"),
    ):
        raise AssertionError("two at a time")
    assert held.holder.owner in str(refused.value)
    for part in ("for 'up' since", "until", "tandem lock break --env lab"):
        assert part in str(refused.value)
    with lock.hold("lab", tmp_path / "two", stores.stores(), "drill") as second:
        assert second.sites == ["private", "public"], "given back, it is free in every store"


def test_on_one_machine_it_is_locked_before_any_store_is_up(tmp_path: Path) -> None:
    with lock.hold("lab", tmp_path, [], "up") as held:
        assert held.sites == []
        with (
            pytest.raises(LockedError, match=r"for 'up' since .* \(this machine\)"),
            lock.hold("lab", tmp_path, [], "x"),
        ):
            pass
        here = lock.here(tmp_path)
        assert here is not None
        assert here.purpose == "up"
    assert lock.here(tmp_path) is None


def test_a_store_that_came_up_meanwhile_is_locked_too(stores: signal_stage.Stores, tmp_path: Path) -> None:
    with lock.hold("lab", tmp_path / "one", [], "up") as held:
        held.take(stores.stores())
        assert held.sites == ["private", "public"]
        with pytest.raises(LockedError), lock.hold("lab", tmp_path / "two", stores.stores(), "drill"):
            pass


def test_of_many_at_once_one_gets_it(stores: signal_stage.Stores, tmp_path: Path) -> None:
    start, release = threading.Barrier(6), threading.Event()
    got: list[int] = []
    refused: list[str] = []

    def contend(number: int) -> None:
        start.wait(30)
        try:
            with lock.hold("lab", tmp_path / str(number), stores.stores(), f"up {number}"):
                got.append(number)
                release.wait(30)
        except LockedError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    until(lambda: len(got) + len(refused) >= 6 or len(refused) >= 5)
    release.set()
    for thread in threads:
        thread.join(20)
    assert len(got) <= 1, "never two"


def test_a_store_that_is_away_is_left_out_and_said_so_but_one_has_to_answer(
    stores: signal_stage.Stores, tmp_path: Path
) -> None:
    said: list[str] = []
    with lock.hold("lab", tmp_path / "one", stores.stores("private"), "up", say=said.append) as held:
        assert held.sites == ["public"]
    assert "not held in every store: private: s3://signals-private" in said[0]
    with (
        pytest.raises(SignalError, match="no store answers"),
        lock.hold("lab", tmp_path / "one", stores.stores("private", "public"), "up"),
    ):
        pass
    assert lock.here(tmp_path / "one") is None


def test_what_was_taken_before_a_refusal_is_given_back(stores: signal_stage.Stores, tmp_path: Path) -> None:
    written(stores, elsewhere(), "public")
    with (
        pytest.raises(LockedError, match=r"eve@far 7 for 'drill switchover'"),
        lock.hold("lab", tmp_path, stores.stores(), "up"),
    ):
        pass
    assert [each.holder is None for each in lock.status(stores.stores())] == [True, False]


def test_a_lapsed_store_is_not_taken_from_a_holder_that_has_another(
    stores: signal_stage.Stores, tmp_path: Path
) -> None:
    """Its holder could not reach the first store for its lease, and still works."""
    written(stores, elsewhere(lease_seconds=0.0), "private")
    written(stores, elsewhere(), "public")
    until(lambda: lock.status(stores.stores())[0].holder is None)
    before = stores.stores()[0].get(lock.KEY)
    with pytest.raises(LockedError, match="eve@far 7"), lock.hold("lab", tmp_path, stores.stores(), "up"):
        pass
    after = stores.stores()[0].get(lock.KEY)
    assert before is not None
    assert after is not None
    assert (after.etag, after.body) == (before.etag, before.body), "nothing was written"


def test_a_store_that_is_taken_while_others_are_written_has_these_given_back(
    stores: signal_stage.Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    occupy = lock.EnvironmentLock._occupy

    def overtaken(held: lock.EnvironmentLock, store: SignalStore) -> None:
        occupy(held, store)
        written(stores, elsewhere(), "public")

    with lock.hold("lab", tmp_path, [], "up") as held:
        with monkeypatch.context() as patch:
            patch.setattr(lock.EnvironmentLock, "_occupy", overtaken)
            with pytest.raises(LockedError, match="eve@far 7"):
                held.take(stores.stores())
        assert held.sites == []
        assert [each.holder is None for each in lock.status(stores.stores())] == [True, False]
        lock.break_open(stores.stores())
        held.take(stores.stores())
        assert held.sites == ["private", "public"], "what was given back can be taken again"
        assert all(each.holder and each.holder.token == held.holder.token for each in lock.status(stores.stores()))


def test_a_lapsed_lock_is_taken_over_by_the_stores_clock(stores: signal_stage.Stores, tmp_path: Path) -> None:
    written(stores, elsewhere(lease_seconds=0.0, until="2999-01-01T00:00:00+00:00"), "private", "public")
    until(lambda: lock.status(stores.stores())[0].holder is None)
    with lock.hold("lab", tmp_path, stores.stores(), "up") as held:
        assert held.sites == ["private", "public"], "what its holder wrote about the time does not count"


def test_a_lock_is_renewed_beyond_its_lease(stores: signal_stage.Stores, tmp_path: Path) -> None:
    with lock.hold("lab", tmp_path / "one", stores.stores(), "up", lease_seconds=2.0):
        end = time.monotonic() + 4.5
        while time.monotonic() < end:
            with pytest.raises(LockedError), lock.hold("lab", tmp_path / "two", stores.stores(), "drill"):
                pass
            time.sleep(0.3)


def test_a_holder_that_was_killed_does_not_lock_out_its_own_machine(
    stores: signal_stage.Stores, tmp_path: Path
) -> None:
    code = (
        "import sys, time; from pathlib import Path; from signals import lock; from signals.store import SignalStore;"
        "stores = [SignalStore(site=s, bucket=f'signals-{s}', endpoint=sys.argv[1], region='us-east-1')"
        " for s in ('private', 'public')];"
        "held = lock.hold('lab', Path(sys.argv[2]), stores, 'up'); held.__enter__(); print('held', flush=True);"
        "time.sleep(60)"
    )
    command = [sys.executable, "-c", code, stores.endpoint, str(tmp_path / "one")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(LockedError), lock.hold("lab", tmp_path / "two", stores.stores(), "drill"):
                pass
        finally:
            holder.kill()
            holder.wait(30)
    with lock.hold("lab", tmp_path / "one", stores.stores(), "drill") as held:
        assert held.sites == ["private", "public"]


def test_a_holder_whose_lock_is_broken_learns_of_it_and_does_not_give_back_what_is_not_its_own(
    stores: signal_stage.Stores, tmp_path: Path
) -> None:
    lost: list[str] = []
    with ExitStack() as first:
        held = first.enter_context(
            lock.hold("lab", tmp_path / "one", stores.stores(), "up", lease_seconds=1.0, lost=lost.append)
        )
        assert {each.past and each.past.token for each in lock.break_open(stores.stores())} == {held.holder.token}
        with lock.hold("lab", tmp_path / "two", stores.stores(), "drill") as second:
            until(lambda: lost)
            assert "the lock was taken" in held.lost
            first.close()
            assert [each.holder and each.holder.token for each in lock.status(stores.stores())] == [
                second.holder.token
            ] * 2


def test_one_that_stands_still_writes_nothing_more_and_stays_locked(
    stores: signal_stage.Stores, tmp_path: Path
) -> None:
    with lock.hold("lab", tmp_path / "one", stores.stores(), "destroy", lease_seconds=0.4) as held:
        held.stand_still(60.0)
        before = [store.get(lock.KEY) for store in stores.stores()]
        time.sleep(0.6)
        after = [store.get(lock.KEY) for store in stores.stores()]
        assert [each and each.etag for each in before] == [each and each.etag for each in after]
        with pytest.raises(LockedError), lock.hold("lab", tmp_path / "two", stores.stores(), "up"):
            pass
        s3 = signal_stage.client(stores.endpoint)
        for site in ("private", "public"):
            s3.delete_object(Bucket=f"signals-{site}", Key=lock.KEY)
    assert lock.status(stores.stores()) == [lock.Standing("private"), lock.Standing("public")], "nor when it ends"


def test_a_lock_nobody_can_read_holds_until_its_lease_is_over(stores: signal_stage.Stores, tmp_path: Path) -> None:
    signal_stage.client(stores.endpoint).put_object(Bucket="signals-public", Key=lock.KEY, Body=b"\xff no lock")
    with pytest.raises(LockedError, match="locked by unknown"), lock.hold("lab", tmp_path, stores.stores(), "up"):
        pass
    lock.break_open(stores.stores())
    with lock.hold("lab", tmp_path, stores.stores(), "up"):
        pass


def test_of_two_processes_with_one_number_the_dead_one_is_told_apart() -> None:
    me = Holder.me("lab", "up", 60.0)
    assert not me.dead
    machine, _, rest = me.process.rpartition("/")
    number = rest.partition(":")[0]
    assert replace(me, process=f"{machine}/{number}:1").dead, "the number was given to another process since"
    assert not replace(me, process=f"other-boot/1/{number}:1").dead, "of another machine nothing is known"
    assert not replace(me, process="").dead
