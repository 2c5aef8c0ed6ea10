"""What people read of a drill: a line while it runs, a scoreboard at the end, a page to keep."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, StrictUndefined
from rich.console import Console
from rich.table import Table

from drills.chart import chart
from drills.sample import Sample

TEMPLATE: Final = Path(__file__).with_name("report.html.j2")
RECENT_SECONDS: Final = 3.0
RECENT_SAMPLES: Final = 1000
STYLE_OF_VERDICT: Final = {
    "held": "bold green",
    "deviated": "bold red",
    "not run": "bold yellow",
    "aborted": "bold yellow",
}
STRETCHES: Final = ("before", "during", "after", "whole")


def progress(phase: str, samples: Sequence[Sample], started: float, broken: float | None) -> Table:
    """The state of a running drill in one short table."""
    now = time.monotonic()
    recent = [sample for sample in samples[-RECENT_SAMPLES:] if sample.finished >= now - RECENT_SECONDS]
    by_site = Counter(sample.site or "unknown" for sample in recent if sample.outcome == "ok")
    failures = Counter(sample.outcome for sample in recent if sample.outcome != "ok")
    since = f"fault {now - broken:5.1f} s ago" if broken else f"{now - started:5.1f} s"
    answers = (
        "  ".join(f"{site} {count / RECENT_SECONDS:4.0f}/s" for site, count in sorted(by_site.items())) or "no answers"
    )
    bad = "  ".join(f"{kind} {count / RECENT_SECONDS:.1f}/s" for kind, count in sorted(failures.items()))
    table = Table.grid(padding=(0, 2))
    table.add_row(f"[bold]{phase}[/bold]", since, answers, f"[red]{bad}[/red]" if bad else "no failures")
    return table


def scoreboard(content: dict[str, Any], console: Console) -> None:
    """Objectives beside measurements, then counts per stretch and client class, and whose answers they were.

    As wide as a terminal usually is, 80 columns, while the names of sites and classes are short.
    """
    verdict = content["status"]
    style = STYLE_OF_VERDICT.get(verdict, "bold")
    console.print(f"[{style}]{verdict.upper()}[/{style}]  {content['drill']} in {content['env']}", highlight=False)
    console.print(content["heading"], style="dim", highlight=False)
    console.print(content.get("reason", ""), highlight=False, markup=False)
    if content.get("findings"):
        console.print("", _objectives(content["findings"]))
    measures = content.get("measures") or {}
    if any(True for _ in rows(measures)):
        console.print("", _requests(measures), "", _answered(measures), "")
    if lag := measures.get("generator_lag"):
        console.print(lag_sentence(lag), style="dim", highlight=False)
    for site, digests in (measures.get("digests") or {}).items():
        console.print(f"{site:<10} declares {digests['declared']}", highlight=False, soft_wrap=True)
        console.print(f"{'':<10} answered {', '.join(digests['answered'])}", highlight=False, soft_wrap=True)


def _objectives(findings: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("objective")
    table.add_column("measured", justify="right")
    table.add_column("promised", justify="right")
    table.add_column("")
    for finding in findings:
        word = "[green]held[/green]" if finding["held"] else "[red]deviated[/red]"
        table.add_row(finding["objective"], finding["measured"], finding["limit"], word)
    return table


def _requests(measures: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stretch")
    table.add_column("users")
    for heading in ("requests", "failures", "available", "p50 ms", "p99 ms", "max ms"):
        table.add_column(heading, justify="right")
    for stretch, users, row in rows(measures):
        latency = row["latency_ms"]
        table.add_row(
            stretch if users == "all" else "",
            users,
            str(row["requests"]),
            str(row["failures"]),
            percent(row["availability"]),
            *(milliseconds(latency[name]) for name in ("p50", "p99", "max")),
        )
    return table


def _answered(measures: dict[str, Any]) -> Table:
    counts = {stretch: measures[stretch]["answers_by_site"] for stretch in STRETCHES if measures.get(stretch)}
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("answered by")
    for stretch in counts:
        table.add_column(stretch, justify="right")
    for site in dict.fromkeys(site for by_site in counts.values() for site in by_site):
        table.add_row(site, *(str(by_site.get(site, 0)) for by_site in counts.values()))
    return table


def rows(measures: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Stretch, whose requests, counts: all users first, then each class and each source where there are several."""
    for stretch in STRETCHES:
        if not (row := measures.get(stretch)):
            continue
        yield stretch, "all", row
        for name, counted in row.get("classes", {}).items() if len(row.get("classes", {})) > 1 else ():
            yield stretch, name, counted
        for name, counted in row.get("sources", {}).items():
            yield stretch, f"from {name}", counted


def lag_sentence(lag: dict[str, float]) -> str:
    """What the load generator itself was late by."""
    budget = f"; the budget is {lag['budget_ms']:g} ms at p99" if lag.get("budget_ms") else ""
    return (
        f"the load generator started half of its requests within {lag['p50_ms']:g} ms of their moment,"
        f" 99 of 100 within {lag['p99_ms']:g} ms, none later than {lag['max_ms']:g} ms{budget}"
    )


def percent(share: float | None) -> str:
    """Never rounded up, so that only what never failed reads 100; nothing for none."""
    return "" if share is None else f"{math.floor(share * 1e5 + 1e-9) / 1e3:.3f} %"


def milliseconds(value: float | None) -> str:
    """To a tenth; nothing for none."""
    return "" if value is None else f"{value:.1f}"


def write(content: dict[str, Any], path: Path) -> Path:
    """The journal as one self-contained HTML page."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(percent=percent, milliseconds=milliseconds)
    measures = content.get("measures") or {}
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        journal=content,
        measures=measures,
        rows=list(rows(measures)),
        lag=lag_sentence(measures["generator_lag"]) if measures.get("generator_lag") else "",
        chart=chart(measures),
    )
    path.write_text(page, encoding="utf-8")
    return path
