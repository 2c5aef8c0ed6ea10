"""Alerts reach somebody, and nothing that lets anybody in stands in a setting or a state."""

from __future__ import annotations

from typing import Any

import pytest

from infra import chart
from infra.alert_receivers import AlertReceivers
from infra.checks import SettingError

MAIL: dict[str, Any] = {
    "mail_to": ("a@example.com", "b@example.com"),
    "mail_from": "tandem@example.com",
    "mail_server": "smtp.example.com:587",
}


def alertmanager(receivers: AlertReceivers) -> Any:
    charts = chart.needed(
        public=False,
        gpu_operator=False,
        driver=False,
        monitoring_namespace="monitoring",
        cluster_name="private",
        region="",
        vpc_id="",
        alerts=receivers,
    )
    return next(each for each in charts if each.name == chart.PROMETHEUS).values.get("alertmanager")


def people(receivers: AlertReceivers) -> dict[str, Any]:
    found: dict[str, Any] = {each["name"]: each for each in alertmanager(receivers)["config"]["receivers"]}["people"]
    return found


def test_a_webhook_is_a_file_of_the_secret_and_never_a_url() -> None:
    receivers = AlertReceivers(secret="tandem-alerts", webhooks=("oncall-url",))
    receivers.check()
    assert alertmanager(receivers)["alertmanagerSpec"] == {"secrets": ["tandem-alerts"]}
    (hook,) = people(receivers)["webhook_configs"]
    assert hook == {"url_file": "/etc/alertmanager/secrets/tandem-alerts/oncall-url", "send_resolved": True}


def test_mail_goes_through_tls_and_its_password_is_a_file() -> None:
    receivers = AlertReceivers(secret="tandem-alerts", mail_user="tandem", **MAIL)
    receivers.check()
    mails = people(receivers)["email_configs"]
    assert [each["to"] for each in mails] == ["a@example.com", "b@example.com"]
    assert all(each["require_tls"] for each in mails)
    assert mails[0]["auth_password_file"] == "/etc/alertmanager/secrets/tandem-alerts/smtp-password"
    assert "auth_password" not in mails[0]


def test_a_server_that_asks_nobody_needs_no_secret() -> None:
    receivers = AlertReceivers(**MAIL)
    receivers.check()
    assert "alertmanagerSpec" not in alertmanager(receivers)
    assert "auth_username" not in people(receivers)["email_configs"][0]


def test_everything_goes_to_people_and_a_page_again_within_the_hour() -> None:
    config = alertmanager(AlertReceivers(**MAIL))["config"]
    named = {each["name"] for each in config["receivers"]}
    routes = [config["route"], *config["route"]["routes"]]
    assert {each["receiver"] for each in routes} == named, "a route that leads to a receiver that is not there is none"
    assert config["route"]["receiver"] == "people"
    again = {tuple(each["matchers"]): each.get("repeat_interval") for each in config["route"]["routes"]}
    assert again[('severity = "page"',)] == "1h"


def test_without_receivers_the_charts_own_values_stand() -> None:
    AlertReceivers().check()
    assert alertmanager(AlertReceivers()) is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"secret": "s", "webhooks": ("https://hooks.example/T0/s3cret",)}, "put the URL into that Secret"),
        ({"webhooks": ("oncall-url",)}, "alert_secret is empty"),
        ({"secret": "tandem-alerts"}, "nothing of it is read"),
        ({"mail_to": ("a@example.com",)}, "set both"),
        ({**MAIL, "mail_server": "smtp.example.com"}, "address and a port"),
        ({**MAIL, "mail_to": ("nobody",)}, "one mail address"),
        ({**MAIL, "mail_user": "tandem"}, "alert_secret is empty"),
        ({"mail_from": "a@example.com"}, "alert_mail_to is empty"),
        ({"secret": "Not_A_Name", "webhooks": ("a",)}, "alert_secret"),
    ],
)
def test_what_could_reach_nobody_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said) as error:
        AlertReceivers(**wrong).check()
    assert "s3cret" not in str(error.value), "a URL in the wrong place may be a secret"
