"""The table of rules in docs/policies.md: python -m infra.policies.table writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from infra.policies.rules import RULES, Rule

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "policies.md"
BEGIN: Final = "<!-- rules -->"
END: Final = "<!-- end of rules -->"


def row(rule: Rule) -> str:
    """One rule as a line of the table."""
    callers = "preview, check" if rule.secretness else "preview, check, CLI"
    return f'| <a id="{rule.name}"></a>`{rule.name}` | {rule.says} | {rule.over} | {rule.only or "all"} | {callers} |'


def table() -> str:
    """Every rule, in the order they are judged."""
    head = ["| rule | says | over | environments | run by |", "|---|---|---|---|---|"]
    return "\n".join([*head, *(row(rule) for rule in RULES)])


def written(page: str) -> str:
    """The page with today's table between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
