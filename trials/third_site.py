"""`make third-site`: a third site comes and goes by the commands of docs/add-a-site.md, and users notice neither.

Two sites serve, and users ask them all the while: the files of the third are written, its stacks come up, it gets its
weight. Drills are run against it and against the others, with users of their own. Then, with users again, it is
emptied, its files go, its stacks are destroyed, and the clouds' APIs have to hold what they held before it came.
Whatever is typed stands in the guide. The first step that is not as promised ends the walk.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer
from rich.console import Console
from rich.table import Table

from drills.drill import DrillError
from drills.expectation import gather
from drills.measure import failures
from drills.sample import Lag
from signals import SignalError, marks
from stacks.contract import Deployment
from trials.guide import Shell, block
from trials.inventory import different, held
from trials.line import ENV, ROOT, Line, TrialError
from trials.users import Users, answered_by, settings

GUIDE: Final = ROOT / "docs" / "add-a-site.md"
TOPOLOGY: Final = ROOT / "docs" / "third-site" / "topology.json"
SITE: Final = "edge"
SITES: Final = frozenset({"private", "public"})
"""Those that are there before and afterwards."""
ADDRESSES: Final = {"private": "127.10", "public": "127.20"}
"""Where the tracked settings of each kind of site have theirs."""
CLOCK_FACTOR: Final = 4.0
RATE: Final = 20.0
"""Requests per second of a drill's users."""
USERS_RATE: Final = 10.0
"""Of the users beside the walk."""
LED_SECONDS: Final = 60.0
STILL_SECONDS: Final = 5.0
"""Users go on asking after the last step for so long."""
NODE_LOSS: Final = "node-loss"
LAYERS: Final = ("storage", "pool", "platform", "serving")


def drills(guide: str, kind: str) -> list[str]:
    """The drills the guide names, one command each; a machine of a public third site has no switch to lose it by."""
    named = [line for line in block(guide, "third-site-drills").splitlines() if line]
    return [line for line in named if kind == "private" or NODE_LOSS not in line or site_of(line) != SITE]


def site_of(drill: str) -> str:
    """The site a drill's command disturbs."""
    words = drill.split()
    return words[words.index("--site") + 1]


@dataclass
class Walk:
    """The steps so far: how long each took, and what was not as promised about the last one."""

    say: Callable[[str], None]
    rows: list[tuple[str, float, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What became of the users."""

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Announce a step and time it; a TrialError in it is what was not as promised."""
        self.say(f"== {title}")
        begun = time.monotonic()
        try:
            yield
        except TrialError as error:
            self.rows.append((title, time.monotonic() - begun, str(error)))
            raise
        self.rows.append((title, time.monotonic() - begun, ""))

    def table(self) -> Table:
        """Seconds per step."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("step")
        table.add_column("seconds", justify="right")
        table.add_column("")
        for title, seconds, wrong in self.rows:
            table.add_row(title, f"{seconds:.1f}", "[red]not as promised[/red]" if wrong else "")
        table.add_row("together", f"{sum(seconds for _, seconds, _ in self.rows):.1f}", "")
        return table


def comes(walk: Walk, shell: Shell, users: Users) -> None:
    """The third site is added, and in the end users are led to it."""
    for title, name in (
        ("its files are written", "third-site"),
        ("its stores come up, and the version is published to them", "third-site-stores"),
    ):
        with walk.step(title):
            shell.type(name)
            users.check()
    with walk.step("the preview has its stacks, and no rule is violated"):
        told(shell.type("third-site-preview"), [f"{layer}-{SITE}.{ENV}" for layer in LAYERS])
        users.check()
    for title, name in (
        ("the rest of it comes up", "third-site-up"),
        ("it is named with weight 0, and is well", "third-site-named"),
        ("it gets its weight", "third-site-weight"),
    ):
        with walk.step(title):
            shell.type(name)
            users.check()
    with walk.step("users are led to three sites"):
        begun = time.monotonic()
        users.until(
            lambda samples: answered_by(samples, begun) == {*SITES, SITE}, LED_SECONDS, f"nobody was led to {SITE}"
        )
        users.check()


def told(preview: str, stacks: Iterable[str]) -> None:
    """Raise TrialError unless a preview speaks of all these stacks."""
    if missing := [stack for stack in stacks if stack not in preview]:
        raise TrialError(f"the preview says nothing of {', '.join(missing)}")


def goes(walk: Walk, shell: Shell, users: Users, before: Counter[str]) -> None:
    """The third site is taken away, and the clouds' APIs hold what they held before it came."""
    with walk.step("it is emptied"):
        shell.type("third-site-empty")
        emptied = time.monotonic()
        users.check()
    with walk.step("its files are removed, and DNS names it no more"):
        shell.type("third-site-unnamed")
        users.check()
    with walk.step("its stacks are destroyed, and its mark is removed"):
        shell.type("third-site-destroyed")
        users.check()
    with walk.step("all APIs hold what they held before it came"):
        as_before(before, held(shell.line.home))
        deployment = deployed(shell.line)
        if left := marked(deployment):
            raise TrialError(f"a mark of {SITE} is left in {', '.join(left)}")
    with walk.step("the others are as they were, and answer"):
        counts: dict[str, dict[str, int]] = json.loads(shell.run(f"tandem up --env {ENV} --json"))
        if changed := {stack: ops for stack, ops in counts.items() if set(ops) - {"same"}}:
            raise TrialError(f"an up afterwards still changes {changed}")
        shell.run(f"tandem drill run drain --env {ENV} --level observe")
        time.sleep(STILL_SECONDS)
        users.check()
        answered = answered_by(list(users.samples), emptied)
        if answered != SITES:
            raise TrialError(f"since {SITE} was empty, {', '.join(sorted(answered))} answered users")


def as_before(before: Counter[str], after: Counter[str]) -> None:
    """Raise TrialError unless the APIs hold the same numbers of all kinds."""
    if wrong := different(before, after):
        raise TrialError(f"not as before: {'; '.join(wrong)}")


def of_the_site(kinds: Counter[str]) -> list[str]:
    """What the third site's own APIs hold."""
    return [kind for kind in kinds if kind.startswith((f"{SITE}: ", f"store of {SITE}: "))]


def marked(deployment: Deployment) -> list[str]:
    """The stores with a mark of the site that was taken away."""
    try:
        return [each.store for each in marks.read(deployment, SITE) if each.mark]
    except SignalError:
        return []  # nobody declared it, and nobody marked it


def topology(home: Path, kind: str) -> Path:
    """The lab's description with a third site of this kind."""
    described: dict[str, Any] = json.loads(TOPOLOGY.read_text(encoding="utf-8"))
    described["sites"][SITE]["kind"] = kind
    home.mkdir(parents=True, exist_ok=True)
    path = home / TOPOLOGY.name
    path.write_text(json.dumps(described), encoding="utf-8")
    return path


def variables(line: Line, kind: str) -> dict[str, str]:
    """What the guide's commands go by besides `TANDEM_HOME`."""
    package = line.package()
    return {
        "kind": kind,
        "from": ADDRESSES[kind],
        "config": str(line.home / ENV / "config"),
        "package": str(package["package"]),
        "digest": str(package["digest"]),
    }


def deployed(line: Line) -> Deployment:
    """Outputs of all stacks that have settings."""
    return Deployment.read(ENV, json.loads(line.tandem("outputs", "--env", ENV, "--json")))


def carry_out(line: Line, walk: Walk, chosen: Sequence[str], clock_factor: float, kind: str) -> None:
    """All steps. Raises TrialError for the first that is not as promised."""
    for pattern in (f"Pulumi.*-{SITE}.{ENV}.yaml", f"Pulumi.traffic.{ENV}.yaml"):
        for leftover in (line.home / ENV / "config").glob(pattern):
            leftover.unlink()
    with walk.step("a lab with room for three sites; two come up"):
        line.up(clock_factor=clock_factor, lab_options=("--topology", str(topology(line.home, kind))))
    shell = Shell(line, GUIDE.read_text(encoding="utf-8"), variables(line, kind))
    before = held(line.home)
    deployment = deployed(line)
    expectation = asyncio.run(gather(deployment)).accepting(SITE, shell.variables["digest"])
    asked = settings(deployment, expectation, USERS_RATE)
    with Users(asked) as users:
        comes(walk, shell, users)
        if not of_the_site(held(line.home) - before):
            raise TrialError(f"the APIs of {SITE} hold nothing new; a comparison at the end would prove nothing")
    walk.notes.append(f"while it came: {summary(users, asked.lag_budget_ms)}")
    for drill in chosen:
        with walk.step(drill.removeprefix("tandem drill run ").replace(f"--env {ENV} ", "")):
            if NODE_LOSS in drill:
                line.spread(site_of(drill))
            shell.run(f"{drill} --rate {RATE:g}")
    with Users(asked) as users:
        goes(walk, shell, users, before)
    walk.notes.append(f"while it went: {summary(users, asked.lag_budget_ms)}")


def summary(users: Users, budget_ms: float) -> str:
    """What became of the users' requests."""
    sites = Counter(sample.site for sample in users.samples if sample.site)
    answers = ", ".join(f"{site} {count}" for site, count in sorted(sites.items()))
    lag = Lag.of(users.samples, budget_ms)
    return (
        f"{len(users.samples)} requests, {len(failures(users.samples))} failed; answered by {answers};"
        f" the load was {lag.p99_ms:.0f} ms late at p99"
    )


def main(
    kind: Annotated[Literal["private", "public"], typer.Option(help="Of the third site.")] = "private",
    clock_factor: Annotated[float, typer.Option(help="Divides the health checks' intervals.")] = CLOCK_FACTOR,
    drill: Annotated[list[str] | None, typer.Option(help="Only drills with this in their command; repeatable.")] = None,
    home: Annotated[Path, typer.Option(help="Where the lab of the trials lives.")] = Path(".tandem/trials"),
) -> None:
    """Exit 0 when every step was as promised."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(text: str) -> None:
        console.print(text, markup=False)

    line, walk, code = Line(home.resolve(), say), Walk(say), 0
    os.environ["TANDEM_HOME"] = str(line.home)
    try:
        known = drills(GUIDE.read_text(encoding="utf-8"), kind)
        chosen = [each for each in known if drill is None or any(words in each for words in drill)]
        carry_out(line, walk, chosen, clock_factor, kind)
    except (TrialError, DrillError) as error:
        console.print(f"[bold red]not as promised[/bold red]: {error}")
        code = 1
    except KeyboardInterrupt:
        console.print("stopped")
        code = 130
    finally:
        line.down()
    printer = Console(highlight=False, soft_wrap=True)
    printer.print("LAB: a rehearsal on one machine, no evidence about production", style="dim")
    printer.print(f"health checks {clock_factor:g} times faster than declared", style="dim")
    printer.print(walk.table())
    for each in walk.notes:
        printer.print(each)
    raise typer.Exit(code)


if __name__ == "__main__":
    typer.run(main)
