"""Two groups that may run beside each other: the whole lab has its addresses, all other tests share theirs."""

from pathlib import Path

import pytest

LAB = Path(__file__).parent / "live"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.xdist_group("lab" if item.path.is_relative_to(LAB) else "rest"))
