"""How far the lab goes with each property the programs use: acted on, validated, recorded only.

    declared.py   what the programs declare
    acted.toml    which properties the lab acts on, each with the test that proves it; kept by hand
    table.py      both together, property by property
    text.py       the table on a terminal, for a machine, as docs/lab-coverage.md

CoverageError: programs that cannot be previewed, or an entry of acted.toml that cannot be read.
"""

from __future__ import annotations


class CoverageError(Exception):
    """A table that cannot be made; says why and what to do."""
