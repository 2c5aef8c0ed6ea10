"""How many checkers a health check has, where they say they are, and which addresses they ask from."""

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
"""Where Route 53 has checkers, taken in turn: any eight neighbours, such as a /29, stand in all of them."""
DEFAULT_CHECKERS: Final = 16
FIRST_ADDRESS: Final = 16
"""Last octet of the first checker, so that eight of them fill a network of their own and sixteen two."""
CHECKER_LIMIT: Final = 255 - FIRST_ADDRESS
"""Each checker has a source address of its own, in one /24."""
