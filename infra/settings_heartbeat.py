"""The settings of a site's heartbeat: how it tells the DNS service, which cannot ask it, that it is golden."""

from __future__ import annotations

from dataclasses import dataclass, field

from infra import checks
from infra.checks import SettingError


@dataclass(frozen=True, kw_only=True)
class HeartbeatSettings:
    """As whom the heartbeat speaks, and how often."""

    role_arn: str = ""
    """IAM role it takes on with its service account's token; empty where pods have an identity or a key is given."""
    endpoint: str = ""
    """URL of the metrics API where it is not AWS's own."""
    interval_seconds: int = 10
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        checks.between("heartbeat.interval_seconds", self.interval_seconds, 5, 30)
        if self.endpoint:
            checks.url("heartbeat.endpoint", self.endpoint)
        if self.role_arn and not self.role_arn.startswith("arn:aws:iam::"):
            raise SettingError(
                f"heartbeat.role_arn is {self.role_arn!r}; it is the ARN of an IAM role: write it like"
                " arn:aws:iam::111122223333:role/tandem-heartbeat"
            )
        if self.role_arn and self.access_key:
            raise SettingError(
                "heartbeat has both role_arn and access_key; a key would win and the role would not be used: keep one"
            )
        checks.credentials(self.access_key, self.secret_key)
