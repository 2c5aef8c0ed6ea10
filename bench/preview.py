"""`make bench-preview`: a preview costs the same for each site, however many there are.

Previews of prod with 2, 5 and 10 sites, by the command a person types. Further sites are settings files in a home of
their own, made from those of the two tracked sites; no tracked file is touched.

Kinds of sites take turns. Where their number is odd, one kind is more often there, and a public site declares three
times what a private one does: then each kind is it once, and the mean counts.

What is compared is processor time: with two stacks at a time, five sites leave a core idle for a sixth of the way, and
seconds on a clock would tell that instead. A preview has to start, whatever it is of: the command and the programs'
libraries are imported. That is measured in the same rounds and taken off before anything is divided by sites. The sizes
take turns, and of each the cheapest round counts: what else a machine does makes a round dearer and none cheaper.

Memory is what all processes of the command hold together at once, a page that several share counted once. It is
measured in a round of its own, which is not timed.

Exit 1 when the time per site of one size is more than a quarter longer than that of another, or a preview fails.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Final, NamedTuple

import psutil
import typer
import yaml
from rich.console import Console
from rich.table import Table

ENV: Final = "prod"
ROOT: Final = Path(__file__).resolve().parents[1]
CONFIG: Final = ROOT / "stacks" / "config"
TRAFFIC: Final = f"Pulumi.traffic.{ENV}.yaml"
SIZES: Final = (2, 5, 10)
SPREAD: Final = 1.25
"""So much longer than the cheapest may the time per site of a size be."""
STEP_SECONDS: Final = 600
SAMPLE_SECONDS: Final = 0.1
PER_SITE: Final = 4
"""Stacks of a site; one more stands above all."""
MIB: Final = 2**20
EVALUATOR: Final = ROOT / "stacks" / "preview" / "evaluator.py"
_SUMMARY: Final = re.compile(r"(?P<resources>\d+) resources in (?P<stacks>\d+) stacks")


class BenchError(Exception):
    """A preview that fails; its time says nothing."""


class Cost(NamedTuple):
    """What a command took."""

    processor_seconds: float
    """Of all its processes, in the kernel and out of it."""
    clock_seconds: float


@dataclass(frozen=True)
class Preview:
    """One preview of an environment with so many sites, in the home where its settings are."""

    sites: int
    first: int
    """Which of the tracked sites is copied first."""
    home: Path

    def run(self) -> tuple[Cost, int]:
        """What it costs, and how many resources it tells of. Raises BenchError."""
        done, cost = timed(self.command, self.environment)
        said = _SUMMARY.search(done.stdout)
        stacks = PER_SITE * self.sites + 1
        if done.returncode != 0 or said is None or int(said["stacks"]) != stacks:
            raise BenchError(
                f"tandem preview of {self.sites} sites: exit code {done.returncode},"
                f" {said[0] if said else 'no summary'}; only one that passes and shows {stacks} stacks is measured:"
                f" see what it says\n{(done.stdout + done.stderr)[-2000:]}"
            )
        return cost, int(said["resources"])

    def memory(self) -> int:
        """Most bytes that its processes hold together."""
        most = 0
        deadline = time.monotonic() + STEP_SECONDS
        with subprocess.Popen(
            self.command,
            cwd=ROOT,
            env={**os.environ, **self.environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                while process.poll() is None and time.monotonic() < deadline:
                    most = max(most, held(process.pid))
                    time.sleep(SAMPLE_SECONDS)
            finally:
                process.kill()
        return most

    @property
    def command(self) -> Sequence[str]:
        """As a person would type it."""
        return [sys.executable, "-m", "tandem", "preview", "--env", ENV]

    @property
    def environment(self) -> Mapping[str, str]:
        """The home that adds the sites."""
        return {"TANDEM_HOME": str(self.home)}


@dataclass(frozen=True)
class Size:
    """What was measured for so many sites, the mean of their mixes."""

    sites: int
    resources: float
    cost: Cost
    start: Cost
    bytes: int
    """Of the mix that holds most."""

    @property
    def per_site(self) -> float:
        """Processor seconds for each site, once the command has started."""
        return (self.cost.processor_seconds - self.start.processor_seconds) / self.sites


def timed(command: Sequence[str], environment: Mapping[str, str]) -> tuple[subprocess.CompletedProcess[str], Cost]:
    """A command that has ended, and what it and all it started took."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=STEP_SECONDS,
        check=False,
    )
    seconds, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, Cost(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, seconds)


def starting(folder: Path) -> Cost:
    """What it takes before anything is evaluated: the command's own modules, then the evaluator's libraries."""
    costs = []
    for command in (
        [sys.executable, "-m", "tandem", "preview", "--help"],
        [sys.executable, "-P", str(EVALUATOR), str(ROOT), str(folder)],
    ):
        done, cost = timed(command, {})
        if done.returncode != 0:
            raise BenchError(
                f"{' '.join(command)}: exit code {done.returncode}: see what it says\n{done.stderr[-2000:]}"
            )
        costs.append(cost)
    return Cost(*(sum(each) for each in zip(*costs, strict=True)))


def held(pid: int) -> int:
    """Bytes of a process and all below it: a page shared by three counts a third in each, where the kernel tells."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                memory = process.memory_full_info()
                total += getattr(memory, "pss", memory.uss)
    return total


def mixes(sites: int) -> range:
    """Which tracked sites to copy first, so that no kind is more often there than another."""
    tracked = len(_config(TRAFFIC)["tandem:sites"])
    return range(tracked if sites % tracked else 1)


def settings(sites: int, first: int) -> dict[str, dict[str, Any]]:
    """Settings files, by name, that make an environment of so many sites out of the tracked one of two."""
    traffic = _config(TRAFFIC)
    tracked = sorted(traffic["tandem:sites"])
    tracked = [*tracked[first:], *tracked[:first]]
    copies = [(tracked[number % len(tracked)], number // len(tracked) + 1) for number in range(len(tracked), sites)]
    found: dict[str, dict[str, Any]] = {}
    members: dict[str, list[str]] = {site: [site] for site in tracked}
    for original, number in copies:
        name = f"{original}-{number}"
        members[original].append(name)
        for path in sorted(CONFIG.glob(f"Pulumi.*-{original}.{ENV}.yaml")):
            config = _renamed(_config(path.name), original, name)
            found[path.name.replace(f"-{original}.", f"-{name}.")] = {"config": config}
    found[TRAFFIC] = {"config": _shared(traffic, members)}
    return found


def _config(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((CONFIG / name).read_text(encoding="utf-8"))
    config: dict[str, Any] = content["config"]
    return config


def _renamed(value: Any, old: str, new: str) -> Any:
    """A site's settings as another one's: its name wherever it is a word, but for its kind."""
    if isinstance(value, dict):
        return {key: item if key == "tandem:kind" else _renamed(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, old, new) for item in value]
    return re.sub(rf"\b{old}\b", new, value) if isinstance(value, str) else value


def _shared(traffic: Mapping[str, Any], members: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The traffic settings with every list and map of sites naming the copies too, the weights alike."""
    everyone = sorted(site for group in members.values() for site in group)

    def widened(value: Any) -> Any:
        if isinstance(value, list) and value and set(value) <= set(members):
            return [site for original in value for site in members[original]]
        if isinstance(value, dict) and value and set(value) <= set(members):
            return {site: item for original, item in value.items() for site in members[original]}
        return value

    config = {key: widened(value) for key, value in traffic.items()}
    config["tandem:sites"] = dict.fromkeys(everyone, 10)
    return config


def write(home: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Put settings files where an environment's overrides are."""
    folder = home / ENV / "config"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def measure(home: Path, sizes: Sequence[int], rounds: int, say: Callable[[str], None]) -> list[Size]:
    """Every size as cheap as its cheapest round. Raises BenchError."""
    previews = [Preview(sites, first, home / f"{sites}-{first}") for sites in sizes for first in mixes(sites)]
    for each in previews:
        write(each.home, settings(each.sites, each.first))
    starts: list[Cost] = []
    costs: dict[Preview, list[Cost]] = {each: [] for each in previews}
    resources: dict[Preview, int] = {}
    for number in range(rounds):
        starts.append(starting(home))
        for each in previews:
            cost, resources[each] = each.run()
            costs[each].append(cost)
            say(f"round {number + 1}: {each.sites} sites in {cost.clock_seconds:.1f} s")
    start = min(starts)
    found = []
    for sites in sizes:
        of_size = [each for each in previews if each.sites == sites]
        cheapest = [min(costs[each]) for each in of_size]
        cost = Cost(*(fmean(each) for each in zip(*cheapest, strict=True)))
        held_bytes = max(each.memory() for each in of_size)
        found.append(Size(sites, fmean(resources[each] for each in of_size), cost, start, held_bytes))
    return found


def spread(sizes: Sequence[Size]) -> float:
    """How many times as long as in the cheapest size a site takes in the dearest one."""
    each = [size.per_site for size in sizes]
    return max(each) / min(each)


def table(sizes: Sequence[Size]) -> Table:
    """What was measured, a line per size."""
    shown = Table(title="A preview by its number of sites")
    for head in ("sites", "resources", "s on the clock", "processor s", "processor s a site", "to the cheapest", "MiB"):
        shown.add_column(head, justify="right")
    cheapest = min(size.per_site for size in sizes)
    for size in sizes:
        shown.add_row(
            str(size.sites),
            f"{size.resources:.0f}",
            f"{size.cost.clock_seconds:.1f}",
            f"{size.cost.processor_seconds:.1f}",
            f"{size.per_site:.2f}",
            f"{size.per_site / cheapest:.2f}",
            f"{size.bytes / MIB:.0f}",
        )
    return shown


def main(
    sites: Annotated[list[int] | None, typer.Option(min=2, help="A size; may be repeated. 2, 5 and 10.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Previews of each size.")] = 3,
) -> None:
    """Preview prod with more and more sites, and compare what a site costs."""
    printed = Console(highlight=False, soft_wrap=True)
    aside = Console(stderr=True, highlight=False, soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as home:
        try:
            sizes = measure(Path(home), sites or SIZES, rounds, aside.print)
        except BenchError as error:
            aside.print(str(error), markup=False)
            raise typer.Exit(1) from error
    printed.print(table(sizes))
    start = sizes[0].start
    printed.print(f"taken off each: {start.processor_seconds:.1f} s of a processor to start")
    found = spread(sizes)
    kept = found <= SPREAD
    printed.print(
        f"a site costs at most {found:.2f} times what it costs in another size; allowed are {SPREAD}:"
        f" {'kept' if kept else 'not kept'}"
    )
    if not kept:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
