"""`make drills-kill`: a drill's host dies or is cut off at a random moment, and the site puts everything back."""

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
from drills.choice import steady
from drills.drill import failed, until_held
from drills.journal import unfinished
from drills.lease import Lease, State, left_behind
from drills.settle import actions_of
from signals import snapshot
from stacks.contract import Deployment
from trials.cut import Way, ways
from trials.line import ENV, ROOT, Line, TrialError
from trials.table import a_line

DRILLS: Final = (("switchover", "down"), ("node-loss", ""))
HOW: Final = ("kill -9", "network cut")
LEASE_SECONDS: Final = 10.0
UNDO_SECONDS: Final = 90.0
"""For the lease to run out and its undo to be carried out, with everything else this machine has to do."""
WELL_SECONDS: Final = 240.0
LONGEST_SECONDS: Final = 400.0


@dataclass(frozen=True)
class Strike:
    """What happens to whom, and when: seconds after the drill's undo stands in the site."""

    drill: str
    fault: str
    how: str
    after_seconds: float

    def __str__(self) -> str:
        name = f"{self.drill} {self.fault}".strip()
        return f"{name}: {self.how} {self.after_seconds:.1f} s after its undo stands"


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
        process = self._start(strike, changed)
        try:
            lease = await self._standing(process)
            await asyncio.sleep(strike.after_seconds)
            ended_before = process.poll() is not None
            self._strike(strike, process, routes)
            wrong = [] if ended_before else await self._outlived(lease)
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
        options = ["--outputs", str(changed), "--lease-seconds", f"{LEASE_SECONDS:g}", "--rate", "20"]
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
                with suppress(Exception):
                    if await lease.ended(0.0) == State.STANDING:
                        return lease
            if process.poll() is not None:
                break
            await asyncio.sleep(0.2)
        said = (self.line.home / "struck-drill.log").read_text(encoding="utf-8", errors="replace")[-1500:]
        raise TrialError(f"the drill's undo never stood; exit code {process.poll()}\n{said}")

    def _strike(self, strike: Strike, process: subprocess.Popen[bytes], routes: dict[str, Way]) -> None:
        if strike.how == "kill -9":
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        else:
            for way in routes.values():
                way.cut()

    async def _outlived(self, lease: Lease) -> list[str]:
        """The Job ends by itself within its lease and the time an undo takes, and says what it did."""
        struck = time.monotonic()
        try:
            state = await lease.ended(LEASE_SECONDS + UNDO_SECONDS)
        except Exception as error:  # noqa: BLE001  the drill may have taken it away in the moment of the strike
            return [] if "404" in str(error) else [f"the lease cannot be read: {error}"]
        log = await lease.log()
        self.say(f"  the undo ended {state!r} {time.monotonic() - struck:.1f} s after the strike")
        for text in log.splitlines():
            self.say(f"    {text}")
        if state == State.CLEAN:
            return []  # released before the strike
        wrong = [] if state == State.UNDONE else [f"the undo ended {state!r}"]
        if "the lease has run out" not in log or "nothing of the drill is left" not in log:
            wrong.append("the undo's log does not say that the lease ran out and nothing is left")
        return wrong

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


def strikes(times: int, chance: random.Random, longest_seconds: float = 50.0) -> list[Strike]:
    """Every drill with every way to be struck in turn, each at a random moment of its course."""
    return [
        Strike(*DRILLS[number % 2], HOW[number // 2 % 2], chance.uniform(0.0, longest_seconds))
        for number in range(times)
    ]


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
