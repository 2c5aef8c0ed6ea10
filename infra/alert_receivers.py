"""Who a site's own Prometheus tells of its alerts: the part of Alertmanager's configuration that says so. Pure.

Addresses that let anybody in who knows them (a webhook's URL, a password) stand in a Secret that somebody else makes;
settings and states name its keys (https://prometheus.io/docs/alerting/latest/configuration/).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from infra import checks
from infra.checks import SettingError

PEOPLE: Final = "people"
NOBODY: Final = "null"
"""The chart's own receiver."""
PASSWORD: Final = "smtp-password"  # noqa: S105 - a key's name
"""Key of the Secret that holds the password of `mail_user`."""
MOUNTED: Final = "/etc/alertmanager/secrets"
"""Where the operator mounts the Secrets it is given."""
_KEY: Final = re.compile(r"[A-Za-z0-9][-._A-Za-z0-9]{0,252}")
_MAIL: Final = re.compile(r"[^@\s,;]+@[^@\s,;]+\.[^@\s,;.]+")


@dataclass(frozen=True, kw_only=True)
class AlertReceivers:
    """Where alerts go; nowhere, if it names nobody."""

    secret: str = ""
    """Secret in the namespace of Prometheus that holds what only Alertmanager may know."""
    webhooks: tuple[str, ...] = ()
    """Keys of it, each with one URL that is called."""
    mail_to: tuple[str, ...] = ()
    mail_from: str = ""
    mail_server: str = ""
    """Host and port, with STARTTLS."""
    mail_user: str = ""
    """Who logs in there, with the password under `smtp-password`; empty for a server that asks nobody."""

    def __bool__(self) -> bool:
        return bool(self.webhooks or self.mail_to)

    def check(self) -> None:
        """Raise SettingError unless Alertmanager can reach everybody who is named."""
        if self.secret:
            checks.label("alert_secret", self.secret)
        for key in self.webhooks:
            if not _KEY.fullmatch(key):
                raise SettingError(
                    f"alert_webhooks has {_short(key)!r}; each entry is a key of alert_secret, under which a URL lies:"
                    " put the URL into that Secret and name its key, like oncall-url"
                )
        for address in (*self.mail_to, *((self.mail_from,) if self.mail_from else ())):
            if not _MAIL.fullmatch(address):
                raise SettingError(
                    f"alert_mail_to or alert_mail_from has {address!r}; it is one mail address: write it like"
                    " oncall@example.com"
                )
        if self.mail_to and not (self.mail_from and self.mail_server):
            raise SettingError(
                f"alert_mail_to is {list(self.mail_to)} without alert_mail_from and alert_mail_server; mail comes from"
                " somebody and goes through a server: set both"
            )
        if self.mail_server:
            checks.host_port("alert_mail_server", self.mail_server)
        if not self.mail_to and (self.mail_from or self.mail_server or self.mail_user):
            raise SettingError("alert_mail_from is set and alert_mail_to is empty; nobody would get it: name somebody")
        wanted = "alert_webhooks" if self.webhooks else "alert_mail_user" if self.mail_user else ""
        if wanted and not self.secret:
            raise SettingError(
                f"{wanted} is set and alert_secret is empty; what they need lies in a Secret: name one of the"
                " monitoring namespace"
            )
        if self.secret and not wanted:
            raise SettingError(
                "alert_secret is set and neither alert_webhooks nor alert_mail_user is; nothing of it is read: name"
                " a key in alert_webhooks, or leave it out"
            )

    @property
    def values(self) -> dict[str, Any]:
        """What is set in kube-prometheus-stack; the chart's own route leads nowhere."""
        if not self:
            return {}
        found: dict[str, Any] = {"config": {"route": _route(), "receivers": [{"name": NOBODY}, self._people()]}}
        if self.secret:
            found["alertmanagerSpec"] = {"secrets": [self.secret]}
        return {"alertmanager": found}

    def _people(self) -> dict[str, Any]:
        people: dict[str, Any] = {"name": PEOPLE}
        if self.webhooks:
            people["webhook_configs"] = [
                {"url_file": f"{MOUNTED}/{self.secret}/{key}", "send_resolved": True} for key in self.webhooks
            ]
        if self.mail_to:
            login = {"auth_username": self.mail_user, "auth_password_file": f"{MOUNTED}/{self.secret}/{PASSWORD}"}
            people["email_configs"] = [
                {
                    "to": address,
                    "from": self.mail_from,
                    "smarthost": self.mail_server,
                    "require_tls": True,
                    "send_resolved": True,
                    **(login if self.mail_user else {}),
                }
                for address in self.mail_to
            ]
        return people


def _route() -> dict[str, Any]:
    """Everything that fires goes to people, a page again after an hour; a mere sign of life goes to nobody."""
    return {
        "receiver": PEOPLE,
        "group_by": ["alertname", "site"],
        "group_wait": "30s",
        "group_interval": "5m",
        "repeat_interval": "12h",
        "routes": [
            {"receiver": NOBODY, "matchers": ['alertname =~ "Watchdog|InfoInhibitor"']},
            {"receiver": PEOPLE, "matchers": ['severity = "page"'], "repeat_interval": "1h"},
        ],
    }


def _short(text: str) -> str:
    """As much of a text that may be a secret as tells which entry is meant."""
    return text if len(text) <= 8 else f"{text[:8]}..."
