"""What of a secret value is searched for in all that is printed, and which words of it are left alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stacks.preview.credentials import misplaced, texts

SECRET = "s3cret-0f-the-user"


def kubeconfig(**user: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "private-1",
                "cluster": {"server": "https://k8s.example:6443", "certificate-authority-data": "UHVibGlj"},
            }
        ],
        "contexts": [{"name": "admin@private-1", "context": {"cluster": "private-1", "user": "oidc-2"}}],
        "current-context": "admin@private-1",
        "users": [{"name": "oidc-2", "user": user}],
    }


def plugin(*arguments: str, **environment: str) -> dict[str, Any]:
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "kubectl",
            "args": list(arguments),
            "env": [{"name": name, "value": value} for name, value in environment.items()],
            "interactiveMode": "IfAvailable",
            "provideClusterInfo": False,
        }
    }


def test_the_words_of_a_kubeconfig_are_no_secrets() -> None:
    config = kubeconfig(
        **plugin("oidc-login", "get-token", "--grant-type=auto", "--region", "eu-central-1", AWS_PROFILE="default")
    )
    assert list(texts(config)) == []
    assert list(texts(json.dumps(config))) == [json.dumps(config)], "as a whole it is one"


@pytest.mark.parametrize(
    "user",
    [
        {"token": SECRET},
        {"password": SECRET, "username": "admin"},
        {"client-key-data": SECRET, "client-certificate-data": "Q2VydA=="},
        {"auth-provider": {"name": "gcp", "config": {"access-token": SECRET}}},
        plugin("oidc-login", f"--oidc-client-secret={SECRET}"),
        plugin("oidc-login", "--oidc-client-secret", SECRET),
        plugin("get-token", SECRET),
        plugin("get-token", OIDC_SECRET=SECRET),
        plugin("get-token", PROFILE=SECRET),
        {"token": json.dumps({"of": SECRET})},
    ],
)
def test_what_can_be_a_credential_is_one_wherever_it_stands(user: dict[str, Any]) -> None:
    assert SECRET in set(texts(kubeconfig(**user)))
    assert SECRET in set(texts(json.dumps(kubeconfig(**user))))


def test_a_credential_of_plain_words_is_one_under_a_key_that_says_so() -> None:
    for user in ({"token": "correct-horse"}, {"password": "hunter"}, plugin("--password", "hunter", TOKEN="horse")):
        assert set(texts(kubeconfig(**user))) & {"correct-horse", "hunter", "horse"}


def test_an_address_with_a_password_in_it_is_a_secret() -> None:
    config = kubeconfig()
    config["clusters"][0]["cluster"]["proxy-url"] = "https://me:hunter@proxy.example"
    assert list(texts(config)) == ["https://me:hunter@proxy.example"]


def test_a_credential_in_a_kubeconfig_that_nobody_calls_secret_is_one_all_the_same() -> None:
    assert list(misplaced(json.dumps(kubeconfig(token=SECRET)))) == [SECRET]
    assert list(misplaced(kubeconfig(**plugin("get-token", "--cluster-name", "tandem-2-public")))) == []
    assert list(misplaced("https://a.store")) == []


def test_another_secret_is_one_with_all_that_is_in_it() -> None:
    assert set(texts({"kind": "key", "parts": ["one-part", "xyz"]})) == {"one-part"}
    assert list(texts(["abc", "abcd"])) == ["abcd"], "three letters stand in every other word"
