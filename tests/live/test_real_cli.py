"""The real Pulumi CLI and the embedded engine run the same programs on the same providers to the same outputs."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.conftest import run_tandem

pytestmark = [
    pytest.mark.live,
    pytest.mark.pulumi,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("pulumi") is None, reason="the Pulumi CLI is not on PATH"),
]

LAYERS = [argument for layer in ("storage", "pool", "traffic") for argument in ("--layer", layer)]
"""Traffic reads the pools' recorded outputs, so those go up too."""
ENGINES = ("cli", "embedded")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "home"
    try:
        run_tandem(home, "lab", "up")
        yield home
    finally:
        run_tandem(home, "lab", "down")


def without_ids(outputs: dict[str, Any]) -> Any:
    """The same outputs with what a cloud makes up put aside: zone and check ids, random suffixes, name servers."""
    text = json.dumps(outputs, sort_keys=True)
    text = re.sub(r'"(zone_id|health_check_id|edge_zone_id)": "[^"]+"', r'"\1": "made up"', text)
    text = re.sub(r"-[0-9a-f]{7,8}\b", "-suffix", text)
    text = re.sub(r"(targetgroup|loadbalancer)/[^\"]+", r"\1/made-up", text)
    return json.loads(text)


def test_storage_pool_and_traffic_export_the_same_through_either_engine(home: Path) -> None:
    outputs = {}
    for engine in ENGINES:
        run_tandem(home, "up", "--env", "lab", *LAYERS, "--engine", engine)
        printed = run_tandem(home, "outputs", "--env", "lab", *LAYERS, "--engine", engine, "--json").stdout
        outputs[engine] = json.loads(printed)
        run_tandem(home, "up", "--env", "lab", *LAYERS, "--engine", engine)
        run_tandem(home, "destroy", "--env", "lab", *LAYERS, "--engine", engine)
    assert len(outputs["cli"]) == 5
    assert without_ids(outputs["cli"]) == without_ids(outputs["embedded"])
