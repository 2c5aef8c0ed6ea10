"""`make drills-kill`: a drill's host dies or is cut off at a random moment, and the site puts everything back.

Most strikes come while something is broken: some seconds after the journal says that an action was begun. Some come
between the moment the undo stands and the first action. A network cut takes the ways to every site's Kubernetes API;
the stores stay reachable.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from drills import session
from drills.access import NOT_FOUND
from drills.choice import steady
from drills.drill import DrillError, failed, until_held
from drills.journal import unfinished
from drills.lease import Lease, State
from drills.settle import actions_of, left_behind
from signals import snapshot
from stacks.contract import Deployment
from trials.cut import Way, ways
from trials.line import ENV, RATE, ROOT, Line, TrialError
from trials.table import a_line

DRILLS: Final = (("switchover", "down", 10.0), ("node-loss", "", 30.0))
"""With the seconds after its action in which the fault is still there on the quickest clock."""
HOW: Final = ("kill -9", "network cut")
STANDING: Final = "its undo stands"
ACTION: Final = "its first action"
BEGUN_SECONDS: Final = 1.0
"""An action that was written down has reached its API after this."""
BEFORE_ACTION_SECONDS: Final = 4.0
EVERY_FIFTH: Final = 5
"""One strike in so many comes before the action."""
UNDOING: Final = "undoing:"
LEASE_SECONDS: Final = 15.0
UNDO_SECONDS: Final = 90.0
"""For the lease to run out and its undo to be carried out, with everything else this machine has to do."""
WELL_SECONDS: Final = 240.0
LONGEST_SECONDS: Final = 400.0


@dataclass(frozen=True)
class Strike:
    """What happens to whom, and when: seconds after one of two moments of the drill."""

    drill: str
    fault: str
    how: str
    after: str
    """STANDING or ACTION."""
    after_seconds: float

    def __str__(self) -> str:
        name = f"{self.drill} {self.fault}".strip()
        return f"{name}: {self.how} {self.after_seconds:.1f} s after {self.after}"

    def wrong(self, state: str, log: str) -> list[str]:
        """What is wrong with a lease that ended so and said this."""
        if self.after == STANDING and state == State.CLEAN:
            return []  # the drill ended by itself before its first action
        found = [] if state == State.UNDONE else [f"the undo ended {state!r}"]
        if "the lease has run out" not in log or "nothing of the drill is left" not in log:
            found.append("the undo's log does not say that the lease ran out and nothing is left")
        if self.after == ACTION and UNDOING not in log:
            found.append("the undo's log does not say that it undid anything, and something was broken")
        return found


@dataclass
class Trial:
    """One strike and what the site did about it."""

    line: Line
    deployment: Deployment
    say: Callable[[str], None]

    async def run(self, strike: Strike, changed: Path, routes: dict[str, Way]) -> list[str]:
        """What is wrong afterwards; nothing when the site put everything back and its log says so."""
        if missing := failed(await until_held(steady(self.deployment), WELL_SECONDS)):
            return [f"no steady state to start from: {missing[0]}"]
        await asyncio.to_thread(self.line.spread)
        before = journals()
        process = self._start(strike, changed)
        try:
            lease = await self._standing(process)
            if strike.after == ACTION:
                await self._acted(process, before)
            await asyncio.sleep(strike.after_seconds)
            ended_before = process.poll() is not None
            self._strike(strike, process, routes)
            wrong = await self._outlived(strike, lease, ended_before=ended_before)
        finally:
            self._end(process)
            for way in routes.values():
                way.heal()
        wrong += await self._nothing_left()
        self.line.tandem("drill", "undo", "--env", ENV)
        wrong += [f"{lease.name} is left in {lease.site}" for lease in await self._leases()]
        return wrong

    def _start(self, strike: Strike, changed: Path) -> subprocess.Popen[bytes]:
        fault = ["--fault", strike.fault] if strike.fault else []
        options = ["--outputs", str(changed), "--lease-seconds", f"{LEASE_SECONDS:g}", "--rate", f"{RATE:g}"]
        log = (self.line.home / "struck-drill.log").open("ab")
        with log:
            return subprocess.Popen(
                [sys.executable, "-m", "tandem", "drill", "run", strike.drill, "--env", ENV, *fault, *options],
                cwd=ROOT,
                env={**os.environ, "TANDEM_HOME": str(self.line.home)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def _standing(self, process: subprocess.Popen[bytes]) -> Lease:
        """The drill's lease once it stands."""
        end = time.monotonic() + WELL_SECONDS
        while time.monotonic() < end:
            for lease in await self._leases():
                with suppress(DrillError):  # its ConfigMap may go between the two looks
                    if await lease.ended(0.0) == State.STANDING:
                        return lease
            if process.poll() is not None:
                break
            await asyncio.sleep(0.2)
        raise self._never("the drill's undo never stood", process)

    async def _acted(self, process: subprocess.Popen[bytes], before: set[Path]) -> None:
        """Until the struck drill's journal says that an action was begun."""
        end = time.monotonic() + WELL_SECONDS
        while time.monotonic() < end and process.poll() is None:
            if any(acted(path) for path in journals() - before):
                return
            await asyncio.sleep(0.1)
        raise self._never("the drill never began an action", process)

    def _never(self, what: str, process: subprocess.Popen[bytes]) -> TrialError:
        said = (self.line.home / "struck-drill.log").read_text(encoding="utf-8", errors="replace")[-1500:]
        return TrialError(f"{what}; exit code {process.poll()}\n{said}")

    def _strike(self, strike: Strike, process: subprocess.Popen[bytes], routes: dict[str, Way]) -> None:
        if strike.how == "kill -9":
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        else:
            for way in routes.values():
                way.cut()

    async def _outlived(self, strike: Strike, lease: Lease, *, ended_before: bool) -> list[str]:
        """The Job ends by itself within its lease and the time an undo takes, and says what it did."""
        struck = time.monotonic()
        if ended_before and strike.after == ACTION:
            return ["the drill had ended before it was struck: nothing was tried"]
        try:
            state = await lease.ended(LEASE_SECONDS + UNDO_SECONDS)
        except DrillError as error:
            released = ended_before and _is_gone(error)
            return [] if released else [f"the lease cannot be read: {error}"]
        log = await lease.log()
        self.say(f"  the undo ended {state!r} {time.monotonic() - struck:.1f} s after the strike")
        for text in log.splitlines():
            self.say(f"    {text}")
        return strike.wrong(state, log)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)

    async def _nothing_left(self) -> list[str]:
        """What the struck drill's journal names that is still there."""
        found: list[str] = []
        for path in unfinished(session.folder_of(ENV), self.deployment.traffic.zone_id):
            for action, prior in actions_of(self.deployment, json.loads(path.read_text(encoding="utf-8"))):
                found += await action.residue(prior)
        return found

    async def _leases(self) -> list[Lease]:
        return [
            each for site in sorted(self.deployment.traffic.sites) for each in await left_behind(self.deployment, site)
        ]


def journals() -> set[Path]:
    """Every drill's there is."""
    return set(session.folder_of(ENV).glob("*.json"))


def acted(journal: Path) -> bool:
    """Whether its drill has begun an action."""
    content = json.loads(journal.read_text(encoding="utf-8"))
    return any(entry["kind"] == "action" for entry in content["entries"])


def _is_gone(error: DrillError) -> bool:
    return getattr(error.__cause__, "status", None) == NOT_FOUND


def strikes(times: int, chance: random.Random) -> list[Strike]:
    """Every drill with every way to be struck in turn, each at a random moment; most while something is broken."""
    planned = []
    for number in range(times):
        drill, fault, broken_seconds = DRILLS[number % 2]
        early = number % EVERY_FIFTH == EVERY_FIFTH - 1
        least, longest = (0.0, BEFORE_ACTION_SECONDS) if early else (BEGUN_SECONDS, broken_seconds)
        after = STANDING if early else ACTION
        planned.append(Strike(drill, fault, HOW[number // 2 % 2], after, chance.uniform(least, longest)))
    return planned


def carry_out(line: Line, planned: list[Strike], say: Callable[[str], None]) -> list[tuple[Strike, list[str]]]:
    """Each strike on the lab of this line, and what was wrong after it; then a whole drill has to run."""
    outputs: dict[str, dict[str, Any]] = json.loads(line.tandem("outputs", "--env", ENV, "--json"))
    deployment = Deployment.read(ENV, outputs)
    done = []
    with ways(outputs) as (changed, routes):
        path = line.home / "cut-outputs.json"
        path.write_bytes(snapshot.sign(snapshot.Snapshot.of(ENV, changed, "trial"), line.home))
        for number, strike in enumerate(planned, start=1):
            say(f"{number} of {len(planned)}: {strike}")
            wrong = asyncio.run(Trial(line, deployment, say).run(strike, path, routes))
            say(f"  {'; '.join(wrong) or 'all was put back'}")
            done.append((strike, wrong))
    return done


def main(
    times: Annotated[int, typer.Option(help="How many strikes.")] = 20,
    seed: Annotated[int | None, typer.Option(help="Repeats the moments.")] = None,
    clock_factor: Annotated[float, typer.Option(help="Divides the health checks' intervals.")] = 1.0,
    home: Annotated[Path, typer.Option(help="Where the lab of the trials lives.")] = Path(".tandem/trials"),
) -> None:
    """Exit 0 when the site put everything back each time and a whole drill runs in the end."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    chosen = random.SystemRandom().randrange(2**31) if seed is None else seed
    console.print(f"seed {chosen}")

    def say(text: str) -> None:
        console.print(text, markup=False)

    try:
        with a_line(home.resolve(), clock_factor, say) as line:
            done = carry_out(line, strikes(times, random.Random(chosen)), say)  # noqa: S311  moments, not secrets
            line.tandem("drill", "run", "drain", "--env", ENV)
    except TrialError as error:
        console.print(f"[bold red]the trial failed[/bold red]: {error}")
        raise typer.Exit(2) from error
    bad = [(strike, wrong) for strike, wrong in done if wrong]
    for strike, wrong in bad:
        console.print(f"[red]{strike}: {'; '.join(wrong)}[/red]")
    console.print(
        f"{len(done) - len(bad)} of {len(done)} strikes: everything was put back by the site; the next drill ran"
    )
    raise typer.Exit(1 if bad else 0)


if __name__ == "__main__":
    typer.run(main)
