"""Who can be told of an alarm: mail addresses and endpoints."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from infra.checks import SettingError

_MAIL: Final = re.compile(r"[^@\s,;]+@[^@\s,;]+\.[^@\s,;.]+")


def check(emails: Collection[str], urls: Collection[str]) -> None:
    """Each of them is one."""
    for address in emails:
        if not _MAIL.fullmatch(address):
            raise SettingError(
                f"alarm_emails has {address!r}; each entry is one mail address: write it like oncall@example.com"
            )
    for url in urls:
        parsed = urlsplit(url)
        if parsed.scheme not in ("http", "https") or not parsed.hostname:
            raise SettingError(
                f"alarm_urls has {url!r}; each entry is an http or https URL: write it like"
                " https://alerts.example.com/tandem"
            )
