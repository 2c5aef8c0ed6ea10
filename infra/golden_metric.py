"""What a site that the health checkers cannot reach says of itself, and how its word is weighed."""

from __future__ import annotations

from typing import Final

REGION: Final = "us-east-1"
"""Where the word is kept: beside the metrics of the DNS service, which are nowhere else, and in no site's region."""
NAMESPACE: Final = "Tandem"
METRIC: Final = "Golden"
"""1 for a golden answer, 0 for any other or none."""
RESOLUTION_SECONDS: Final = 60
"""The DNS service goes by alarms on standard-resolution metrics only
(https://docs.aws.amazon.com/Route53/latest/APIReference/API_AlarmIdentifier.html)."""
STATISTIC: Final = "Average"
SHARE: Final = 0.5
"""A site is ill when less than this share of a period's answers was golden."""
BREACHING: Final = "breaching"
"""How the alarm takes a period without a word; and the status of its check when there is none at all."""
UNHEALTHY: Final = "Unhealthy"


def dimensions(environment: str, site: str) -> dict[str, str]:
    """What tells one site's word from another's."""
    return {"Environment": environment, "Site": site}
