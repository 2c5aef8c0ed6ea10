"""The grammar: probes are asked until they hold or the deadline passes, and four words are four exit codes."""

from dataclasses import dataclass, field

from drills.drill import Observation, Verdict, failed, until, until_held


@dataclass
class Scripted:
    """A probe that answers from a list and then repeats its last answer."""

    answers: list[bool]
    name: str = "scripted"
    asked: int = field(default=0)

    async def ask(self) -> Observation:
        self.asked += 1
        held = self.answers[min(self.asked, len(self.answers)) - 1]
        return Observation(self.name, held=held, detail=f"asked {self.asked} times")


def test_each_verdict_has_its_own_exit_code() -> None:
    assert {str(verdict): verdict.exit_code for verdict in Verdict} == {
        "held": 0,
        "deviated": 1,
        "not run": 2,
        "aborted": 3,
    }


async def test_probes_are_asked_again_until_all_hold() -> None:
    slow, quick = Scripted([False, False, True], "slow"), Scripted([True], "quick")
    seen = await until_held([slow, quick], deadline_seconds=10, pause_seconds=0)
    assert not failed(seen)
    assert slow.asked == 3


async def test_a_deadline_keeps_the_last_observation() -> None:
    seen = await until_held([Scripted([False])], deadline_seconds=0.05, pause_seconds=0.01)
    assert [observation.held for observation in seen] == [False]
    assert "asked" in str(seen[0])


async def test_probes_are_asked_at_least_once_even_with_no_time() -> None:
    probe = Scripted([True])
    assert not failed(await until_held([probe], deadline_seconds=0))
    assert probe.asked == 1


async def test_waiting_for_a_condition_ends_at_its_deadline() -> None:
    assert await until(lambda: True, deadline_seconds=1)
    assert not await until(lambda: False, deadline_seconds=0.02, pause_seconds=0.005)
