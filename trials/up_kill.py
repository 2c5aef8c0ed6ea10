"""`make up-kill`: `tandem up` dies at a random moment, and the next one brings everything where it should be.

Half of the strikes hit an `up` that creates everything above the stores, the others one that changes a weight and a
number of gateways. Everything of the command dies at once, engines and programs too. Then one `up` has to succeed, a
second one has to find nothing to do, and the clouds' APIs have to hold exactly what they hold after an `up` nobody
struck: an orphan or a duplicate is one too many. Before each creation everything is destroyed, and the APIs have to be
as empty as before the first.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import psutil
import typer
import yaml
from rich.console import Console

from trials.inventory import different, held
from trials.line import ENV, ROOT, Line, TrialError

ABOVE_STORES: Final = ("pool", "platform", "serving", "traffic")
CREATION: Final = "creation"
CHANGE: Final = "change"
FIRST_SECONDS: Final = 1.0
"""Before this the command has only read its own modules."""
TRIES: Final = 3
"""So often an `up` may end before it is struck: it took less time than the one before."""
SOONER: Final = 0.9
"""Each time it did, the next is struck after so much of what it took."""
WEIGHTS: Final = ({"private": 70, "public": 30}, {"private": 60, "public": 40})
GATEWAYS: Final = (2, 3)


@dataclass(frozen=True)
class Strike:
    """Which `up` dies, and after how much of the time that it would take."""

    what: str
    after: float

    def __str__(self) -> str:
        return f"an up for a {self.what}, killed after {self.after:.0%} of its time"


def strikes(times: int, chance: random.Random) -> list[Strike]:
    """Creations and changes in turn, each at a random moment of its own."""
    return [Strike((CREATION, CHANGE)[number % 2], chance.random()) for number in range(times)]


@dataclass
class Trial:
    """A line whose `up` is struck, and what its clouds hold when nobody strikes."""

    line: Line
    say: Callable[[str], None]
    bare: Counter[str]
    whole: Counter[str]
    seconds: dict[str, float]
    """What is struck, to how long the last one took that nobody struck."""
    changed: bool = False

    def run(self, strike: Strike) -> list[str]:
        """What is wrong afterwards; nothing when the next `up` brought everything where it should be."""
        wrong = []
        for tries in range(TRIES):
            wrong += self._begin(strike.what)
            after = max(FIRST_SECONDS, strike.after * SOONER**tries * self.seconds[strike.what])
            ended = strike_up(self.line, after)
            if ended is None:
                self.say(f"  struck after {after:.1f} s")
                break
            self.say(f"  it had ended after {ended:.1f} s, before it could be struck: once more")
            self.seconds[strike.what] = ended
        else:
            return [*wrong, f"it had ended {TRIES} times before it could be struck, so nothing was tried"]
        self.line.tandem("up", "--env", ENV)
        began = time.monotonic()
        again: dict[str, dict[str, int]] = json.loads(self.line.tandem("up", "--env", ENV, "--json"))
        self.seconds[CHANGE] = time.monotonic() - began
        wrong += [
            f"a second up still changes {stack}: {counts}" for stack, counts in again.items() if set(counts) - {"same"}
        ]
        return wrong + different(self.whole, held(self.line.home))

    def _begin(self, what: str) -> list[str]:
        """Let there be something to do; what a destroy left."""
        if what == CREATION:
            destroy(self.line)
            return [f"after destroy: {each}" for each in different(self.bare, held(self.line.home))]
        self.changed = not self.changed
        change(self.line, self.changed)
        return []


def destroy(line: Line) -> None:
    """Everything above the stores; those hold the model."""
    layers = [option for layer in ABOVE_STORES for option in ("--layer", layer)]
    line.tandem("destroy", "--env", ENV, *layers)


def change(line: Line, other: bool) -> None:
    """Two settings, to one pair of values or to the other."""
    override(line, "traffic", {"sites": WEIGHTS[other]})
    override(line, "serving-public", {"gateway_replicas": GATEWAYS[other]})


def override(line: Line, stack: str, values: dict[str, Any]) -> None:
    """Settings of this line's own over the tracked ones."""
    path = line.home / ENV / "config" / f"Pulumi.{stack}.{ENV}.yaml"
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    content.setdefault("config", {}).update({f"tandem:{key}": value for key, value in values.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def strike_up(line: Line, after_seconds: float) -> float | None:
    """Start an `up` and kill all of its processes at once; after how many seconds it ended, if it had by then."""
    log = (line.home / "struck-up.log").open("ab")
    began = time.monotonic()
    with log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tandem", "up", "--env", ENV],
            cwd=ROOT,
            env={**os.environ, "TANDEM_HOME": str(line.home), "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        process.wait(after_seconds)
    except subprocess.TimeoutExpired:
        pass
    else:
        return time.monotonic() - began
    kill_tree(process.pid)
    process.wait(30)
    return None


def kill_tree(pid: int) -> None:
    """A process and all its descendants, stopped first so that none of them does anything about it."""
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        parent.send_signal(signal.SIGSTOP)
        for each in (*parent.children(recursive=True), parent):
            with suppress(psutil.NoSuchProcess):
                each.kill()


def carry_out(
    line: Line, times: int, chance: random.Random, say: Callable[[str], None]
) -> list[tuple[Strike, list[str]]]:
    """Each strike in turn, and what was wrong after it. The line is up with its stores only."""
    bare = held(line.home)
    began = time.monotonic()
    line.tandem("up", "--env", ENV)
    trial = Trial(line, say, bare, held(line.home), {CREATION: time.monotonic() - began})
    done = []
    for number, strike in enumerate(strikes(times, chance), start=1):
        say(f"{number} of {times}: {strike}")
        wrong = trial.run(strike)
        say(f"  {'; '.join(wrong) or 'everything is where it should be'}")
        done.append((strike, wrong))
    return done


def main(
    times: Annotated[int, typer.Option(help="How many strikes.")] = 20,
    seed: Annotated[int | None, typer.Option(help="Repeats the moments.")] = None,
    home: Annotated[Path, typer.Option(help="Where the lab of the trials lives.")] = Path(".tandem/trials"),
) -> None:
    """Exit 0 when every `up` after a struck one brought everything where it should be."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    chosen = random.SystemRandom().randrange(2**31) if seed is None else seed
    console.print(f"seed {chosen}")

    def say(text: str) -> None:
        console.print(text, markup=False)

    line = Line(home.resolve(), say)
    os.environ["TANDEM_HOME"] = str(line.home)
    try:
        line.stores_up(clock_factor=1.0)
        done = carry_out(line, times, random.Random(chosen), say)  # noqa: S311  moments, not secrets
    except TrialError as error:
        console.print(f"[bold red]the trial failed[/bold red]: {error}")
        raise typer.Exit(2) from error
    finally:
        line.down()
    bad = [(strike, wrong) for strike, wrong in done if wrong]
    for strike, wrong in bad:
        console.print(f"[red]{strike}: {'; '.join(wrong)}[/red]")
    console.print(f"{len(done) - len(bad)} of {len(done)} strikes: the next up brought everything where it should be")
    raise typer.Exit(1 if bad else 0)


if __name__ == "__main__":
    typer.run(main)
