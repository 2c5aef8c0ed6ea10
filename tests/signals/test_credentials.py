"""A store is opened by the credentials its site names; where this machine has none of that name, that is said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from signals import SignalError
from signals import store as signal_store
from signals.store import SignalStore
from stacks.contract import StorageOutputs
from tests.declared import filled

CEPH = filled(
    StorageOutputs,
    site="private",
    region="default",
    endpoint="https://s3.private.tandem.example",
    signal_bucket="signals",
    credentials_profile="tandem-private",
)
AWS = filled(StorageOutputs, site="public", region="eu-central-1", signal_bucket="signals")


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A pipeline's machine: the session of a role in its environment, and a file with one profile beside it."""
    file = tmp_path / "credentials"
    file.write_text("[tandem-private]\naws_access_key_id = CEPHKEY\naws_secret_access_key = ceph-secret\n")
    for name, value in {
        "AWS_ACCESS_KEY_ID": "ROLEKEY",
        "AWS_SECRET_ACCESS_KEY": "role-secret",
        "AWS_SESSION_TOKEN": "role-session",
        "AWS_SHARED_CREDENTIALS_FILE": str(file),
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    signal_store._client.cache_clear()
    yield file
    signal_store._client.cache_clear()


def signed_by(outputs: StorageOutputs) -> tuple[str, str | None]:
    """Key and session that requests to the store are signed with."""
    client = SignalStore.of(outputs)._client
    credentials = client._request_signer._credentials  # type: ignore[attr-defined]
    return credentials.access_key, credentials.token


def test_a_roles_session_opens_aws_and_a_named_profile_the_store_beside_it() -> None:
    assert signed_by(AWS) == ("ROLEKEY", "role-session")
    assert signed_by(CEPH) == ("CEPHKEY", None)


def test_a_profile_this_machine_does_not_have_is_named_with_the_way_to_make_it() -> None:
    missing = SignalStore.of(replace(CEPH, credentials_profile="nobody"))
    asks = (missing.get, missing.delete, lambda key: missing.put(key, b""))
    for ask in asks:
        with pytest.raises(SignalError, match=r"no profile nobody.*: aws configure --profile nobody"):
            ask("drain/private")


def test_a_profile_that_holds_no_key_is_told_from_none(machine: Path) -> None:
    machine.write_text("[tandem-private]\nregion = default\n")
    with pytest.raises(SignalError, match="no credentials; give profile tandem-private some"):
        SignalStore.of(CEPH).get("drain/private")
