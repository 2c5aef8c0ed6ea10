"""Names are functions of their arguments; a bad value is refused with value, rule and remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from infra import checks, naming
from infra.checks import SettingError

DIGEST = "sha256:" + "a" * 64


def test_labels_hold_the_selector_and_the_site() -> None:
    labels = naming.labels("private", "triton")
    assert naming.selector("triton").items() <= labels.items()
    assert labels["tandem.io/site"] == "private"


def test_a_site_name_leaves_room_for_a_load_balancer_name() -> None:
    suffix = len("-edge-") + 7  # role, hyphen, automatic suffix
    assert naming.SITE_LIMIT + suffix <= 32


@pytest.mark.parametrize(
    ("check", "value", "said"),
    [
        (checks.label, "Private", "lower-case"),
        (checks.label, "-a", "lower-case"),
        (checks.label, "a" * 64, "63"),
        (checks.dns_name, "localhost", "two parts"),
        (checks.dns_name, "shop.example.com.", "shop.example.com"),
        (checks.url, "s3.example.com", "URL"),
        (checks.url, "http://s3.example.com/path", "without a path"),
        (checks.ipv4, "127.10.0", "IPv4 address"),
        (checks.ipv4, "::1", "IPv4 address"),
        (checks.host_port, "127.30.0.53", "address and a port"),
        (checks.host_port, "127.30.0.53:99999", "address and a port"),
        (checks.region, "EU Central", "region"),
        (checks.digest, "latest", "sha256"),
        (checks.digest, "sha256:" + "A" * 64, "sha256"),
        (checks.image, "nvcr.io/nvidia/tritonserver:25.01-py3", "no tag"),
        (checks.image, f"tritonserver@{DIGEST[:-1]}", "repository@sha256"),
        (checks.weights, {}, "names no site"),
        (checks.weights, {"private": 0, "public": 0}, "above 0"),
        (checks.weights, {"private": 256}, "0 to 255"),
        (checks.weights, {"private": -1}, "0 to 255"),
        (checks.weights, {"private": 70.5}, "0 to 255"),
        (checks.weights, {"private": True}, "0 to 255"),
        (checks.weights, {"private": "70"}, "0 to 255"),
    ],
)
def test_a_bad_value_is_refused_with_value_rule_and_remedy(
    check: Callable[[str, Any], None], value: Any, said: str
) -> None:
    with pytest.raises(SettingError, match=said) as refused:
        check("the_key", value)
    assert "the_key" in str(refused.value)
    assert ": " in str(refused.value), "a remedy follows the colon"


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (checks.label, "private"),
        (checks.dns_name, "recommend.tandem.test"),
        (checks.url, "http://127.10.0.2:9000"),
        (checks.ipv4, "127.10.0.10"),
        (checks.host_port, "127.30.0.53:5353"),
        (checks.region, "eu-central-1"),
        (checks.digest, DIGEST),
        (checks.image, f"nvcr.io/nvidia/tritonserver@{DIGEST}"),
        (checks.weights, {"private": 0, "public": 255}),
    ],
)
def test_a_good_value_passes(check: Callable[[str, Any], None], value: Any) -> None:
    check("the_key", value)


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        (str, "", ""),
        (bool, "false", False),
        (int, "-3", -3),
        (float, "2.5", 2.5),
        (tuple[str, ...], '["a","b"]', ("a", "b")),
        (dict[str, str], '{"s3":"http://x"}', {"s3": "http://x"}),
        (dict[str, int], '{"private":70}', {"private": 70}),
    ],
    ids=str,
)
def test_configured_text_becomes_the_declared_type(kind: Any, raw: str, value: Any) -> None:
    assert checks.parse("the_key", raw, kind) == value


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (bool, "yes"),
        (int, "2.5"),
        (int, ""),
        (float, "nan"),
        (tuple[str, ...], "a,b"),
        (tuple[str, ...], "[1]"),
        (dict[str, str], '{"s3":1}'),
        (dict[str, int], "[]"),
    ],
    ids=str,
)
def test_text_of_another_type_is_refused(kind: Any, raw: str) -> None:
    with pytest.raises(SettingError, match="the_key"):
        checks.parse("the_key", raw, kind)


def kubeconfig(user: dict[str, Any]) -> dict[str, Any]:
    return {
        "clusters": [{"name": "c", "cluster": {"server": "https://c.example"}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }


@pytest.mark.parametrize("held", sorted(checks.LONG_LIVED))
def test_an_exported_kubeconfig_holds_no_credential_and_the_error_does_not_show_it(held: str) -> None:
    with pytest.raises(SettingError, match=held) as refused:
        checks.kubeconfig("kubeconfig", kubeconfig({held: "hush"}), exported=True)
    assert "hush" not in str(refused.value)


def test_a_kubeconfig_with_an_exec_plugin_may_be_exported_and_a_secret_one_may_hold_a_token() -> None:
    checks.kubeconfig("kubeconfig", kubeconfig({"exec": {"command": "aws"}}), exported=True)
    checks.kubeconfig("management_kubeconfig", kubeconfig({"token": "hush"}), exported=False)


def test_a_kubeconfig_names_a_context_that_exists() -> None:
    with pytest.raises(SettingError, match="current-context"):
        checks.kubeconfig("kubeconfig", kubeconfig({}) | {"current-context": "y"}, exported=False)


@pytest.mark.parametrize(("access", "secret"), [("a", ""), ("", "b")], ids=["no secret", "no access"])
def test_half_a_key_is_refused(access: str, secret: str) -> None:
    with pytest.raises(SettingError, match="both halves"):
        checks.credentials(access, secret)
