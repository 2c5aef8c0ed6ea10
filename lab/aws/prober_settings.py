"""How many checkers a health check has, and where they say they are."""

from __future__ import annotations

from typing import Final

REGIONS: Final = (
    "us-east-1",
    "us-west-1",
    "us-west-2",
    "eu-west-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-northeast-1",
    "sa-east-1",
)
"""Where Route 53 has checkers; where there are more checkers than regions, they share them."""
DEFAULT_CHECKERS: Final = 8
CHECKER_LIMIT: Final = 250
"""Each checker has a source address of its own, in one /24."""
