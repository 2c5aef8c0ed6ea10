"""What people read of a drill: a line while it runs, a scoreboard at the end, a page to keep."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, StrictUndefined
from rich.console import Console
from rich.table import Table

from drills.load import Sample

TEMPLATE: Final = Path(__file__).with_name("report.html.j2")
RECENT_SECONDS: Final = 3.0
STYLE_OF_VERDICT: Final = {
    "held": "bold green",
    "deviated": "bold red",
    "not run": "bold yellow",
    "aborted": "bold yellow",
}
SITE_COLOURS: Final = ("#3b6fb6", "#e0a030", "#4a9a70", "#8a62a8")
FAILURE_COLOUR: Final = "#c0392b"
CHART_WIDTH: Final = 900
CHART_HEIGHT: Final = 180


def progress(phase: str, samples: Sequence[Sample], started: float, broken: float | None) -> Table:
    """The state of a running drill in one short table."""
    now = time.monotonic()
    recent = [sample for sample in samples[-1000:] if sample.finished >= now - RECENT_SECONDS]
    by_site = Counter(sample.site or "unknown" for sample in recent if sample.outcome == "ok")
    failures = Counter(sample.outcome for sample in recent if sample.outcome != "ok")
    since = f"fault {now - broken:5.1f} s ago" if broken else f"{now - started:5.1f} s"
    answers = (
        "  ".join(f"{site} {count / RECENT_SECONDS:4.0f}/s" for site, count in sorted(by_site.items())) or "no answers"
    )
    bad = "  ".join(f"{kind} {count / RECENT_SECONDS:.0f}/s" for kind, count in sorted(failures.items()))
    table = Table.grid(padding=(0, 2))
    table.add_row(f"[bold]{phase}[/bold]", since, answers, f"[red]{bad}[/red]" if bad else "no failures")
    return table


def scoreboard(content: dict[str, Any], console: Console) -> None:
    """Objectives beside measurements, then counts per stretch."""
    verdict = content["status"]
    style = STYLE_OF_VERDICT.get(verdict, "bold")
    console.print(f"[{style}]{verdict.upper()}[/{style}]  {content['drill']} in {content['env']}", highlight=False)
    console.print(content["heading"], style="dim", highlight=False)
    console.print(content.get("reason", ""), highlight=False)
    if content.get("findings"):
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("objective")
        table.add_column("measured", justify="right")
        table.add_column("promised", justify="right")
        table.add_column("")
        for finding in content["findings"]:
            word = "[green]held[/green]" if finding["held"] else "[red]deviated[/red]"
            table.add_row(finding["objective"], finding["measured"], finding["limit"], word)
        console.print(table)
    measures = content.get("measures") or {}
    if not measures:
        return
    stretches = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("stretch", "requests", "failures", "available", "p50 ms", "p99 ms", "answers by site"):
        stretches.add_column(heading, justify="left" if heading in {"stretch", "answers by site"} else "right")
    for stretch in ("before", "during", "after", "whole"):
        row = measures[stretch]
        share = "" if row["availability"] is None else f"{100 * row['availability']:.2f} %"
        sites = "  ".join(f"{site} {count}" for site, count in row["answers_by_site"].items())
        latency = row["latency_ms"]
        stretches.add_row(
            stretch,
            str(row["requests"]),
            str(row["failures"]),
            share,
            _cell(latency["p50"]),
            _cell(latency["p99"]),
            sites,
        )
    console.print(stretches)
    for site, digests in measures["digests"].items():
        console.print(f"{site:<10} declares {digests['declared']}", highlight=False, soft_wrap=True)
        console.print(f"{'':<10} answered {', '.join(digests['answered'])}", highlight=False, soft_wrap=True)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def write(content: dict[str, Any], path: Path) -> Path:
    """The journal as one self-contained HTML page."""
    template = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string(TEMPLATE.read_text(encoding="utf-8"))
    path.write_text(template.render(journal=content, chart=_chart(content.get("measures") or {})), encoding="utf-8")
    return path


def _chart(measures: dict[str, Any]) -> dict[str, Any] | None:
    """Stacked bars per second: answers by site below, failures on top."""
    timeline = measures.get("timeline")
    if not timeline:
        return None
    labels = sorted(
        {label for bucket in timeline for label in bucket["counts"]}, key=lambda x: (x.startswith("failed"), x)
    )
    colours: dict[str, str] = {}
    for label in labels:
        colours[label] = (
            FAILURE_COLOUR if label.startswith("failed") else SITE_COLOURS[len(colours) % len(SITE_COLOURS)]
        )
    first, last = timeline[0]["seconds"], timeline[-1]["seconds"] + 1
    highest = max(sum(bucket["counts"].values()) for bucket in timeline)
    bar_width = CHART_WIDTH / (last - first)
    bars = []
    for bucket in timeline:
        base = 0.0
        for label in labels:
            count = bucket["counts"].get(label, 0)
            height = CHART_HEIGHT * count / highest
            if count:
                bars.append(
                    {
                        "x": round((bucket["seconds"] - first) * bar_width, 2),
                        "y": round(CHART_HEIGHT - base - height, 2),
                        "width": round(bar_width * 0.9, 2),
                        "height": round(height, 2),
                        "colour": colours[label],
                        "title": f"{bucket['seconds']:+.0f} s: {label} {count}",
                    }
                )
            base += height
    return {
        "width": CHART_WIDTH,
        "height": CHART_HEIGHT,
        "bars": bars,
        "fault_x": round(-first * bar_width, 2),
        "restored_x": round((measures["fault_seconds"] - first) * bar_width, 2),
        "legend": colours,
    }
