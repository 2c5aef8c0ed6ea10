"""What the bench of previews makes and judges; it is run by `make bench-preview` alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench import preview
from bench.preview import BenchError, Cost, Preview, Size, settings, spread, timed
from stacks.workspace import Workspace


def size(sites: int, seconds: float) -> Size:
    return Size(sites, 100 * sites, Cost(seconds, seconds), Cost(2.0, 2.0), 1)


def test_further_sites_have_every_layer_and_a_share(tmp_path: Path) -> None:
    preview.write(tmp_path, settings(5, 0))
    workspace = Workspace(preview.ENV, preview.ROOT, tmp_path)
    stacks = {str(stack) for layer in workspace.order() for stack in layer}
    sites = {"private", "private-2", "private-3", "public", "public-2"}
    assert stacks == {
        "traffic.prod",
        *(f"{layer}-{site}.prod" for layer in ("storage", "pool", "platform", "serving") for site in sites),
    }
    traffic = settings(5, 0)["Pulumi.traffic.prod.yaml"]["config"]
    assert set(traffic["tandem:sites"]) == sites
    assert traffic["tandem:alias_sites"] == ["public", "public-2"]


def test_a_copy_is_of_its_originals_kind_and_has_a_name_of_its_own() -> None:
    copy = settings(3, 0)["Pulumi.pool-private-2.prod.yaml"]["config"]
    assert copy["tandem:kind"] == "private"
    assert copy["tandem:cluster_name"] == "tandem-private-2"


def test_of_an_odd_number_each_kind_is_once_the_more_frequent() -> None:
    assert list(preview.mixes(10)) == [0]
    found = [
        set(settings(5, first)["Pulumi.traffic.prod.yaml"]["config"]["tandem:sites"]) for first in preview.mixes(5)
    ]
    assert found == [
        {"private", "private-2", "private-3", "public", "public-2"},
        {"private", "private-2", "public", "public-2", "public-3"},
    ]


def test_the_start_is_taken_off_before_anything_is_divided() -> None:
    assert size(2, 4.0).per_site == pytest.approx(1.0)
    assert spread([size(2, 4.0), size(5, 7.0), size(10, 12.0)]) == pytest.approx(1.0)


def test_a_site_that_costs_more_the_more_there_are_is_seen() -> None:
    assert spread([size(2, 4.0), size(5, 7.0), size(10, 16.0)]) > preview.SPREAD


def test_a_preview_that_fails_is_not_measured(tmp_path: Path) -> None:
    class Failing(Preview):
        command = (sys.executable, "-c", "print('1 resources in 9 stacks'); raise SystemExit(1)")  # type: ignore[assignment]

    with pytest.raises(BenchError, match="exit code 1"):
        Failing(2, 0, tmp_path).run()


def test_a_preview_of_too_few_stacks_is_not_measured(tmp_path: Path) -> None:
    class Small(Preview):
        command = (sys.executable, "-c", "print('1 resources in 8 stacks')")  # type: ignore[assignment]

    with pytest.raises(BenchError, match="8 stacks"):
        Small(2, 0, tmp_path).run()


def test_what_a_command_starts_counts_too() -> None:
    burn = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}], check=True)"
    _, cost = timed([sys.executable, "-c", child], {})
    assert cost.processor_seconds >= 0.3
