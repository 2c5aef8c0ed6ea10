"""What tests of the stacks' commands stand on: stores of two sites, and a cloud that a provider of a test changes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.signals.signal_stage import server, stores

# The engine's own fakes lie beside its tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "lab"))

from engine_fake import Cloud, echo_server

__all__ = ["echo", "server", "stores"]


@pytest.fixture
def echo() -> Iterator[tuple[Cloud, int]]:
    with echo_server() as cloud:
        yield cloud
