"""A sample survives a file, and the generator's lag is told from samples."""

from __future__ import annotations

from pathlib import Path

from drills.load import Lag, Outcome, Sample, append_jsonl

FIRST = "127.84.8.1"


def test_lag_quantiles_are_nearest_rank() -> None:
    def sample(late_ms: float) -> Sample:
        return Sample(10.0, 10.0 + late_ms / 1000, 11.0, 0, "dns", None, None, None, Outcome.OK, None, "")

    assert Lag.of([sample(ms) for ms in range(1, 101)]) == Lag(p50_ms=50, p99_ms=99, max_ms=100)
    assert Lag.of([]) == Lag(0, 0, 0)


def test_samples_survive_a_file(tmp_path: Path) -> None:
    samples = [
        Sample(1.5, 1.6, 2.0, 3, "dns", "private", FIRST, 200, Outcome.OK, "sha256:x", ""),
        Sample(2.5, 2.6, 3.0, 4, "dns", None, None, None, Outcome.DNS, None, "SERVFAIL"),
    ]
    append_jsonl(tmp_path / "samples.jsonl", samples[:1])
    append_jsonl(tmp_path / "samples.jsonl", samples[1:])
    lines = (tmp_path / "samples.jsonl").read_text().splitlines()
    assert [Sample.from_json(line) for line in lines] == samples
