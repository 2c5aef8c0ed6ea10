"""The gateway's environment: what it takes, and what it says about what it does not take."""

from __future__ import annotations

from pathlib import Path

import pytest
from gateway_stage import TOKEN, build_package, environment, lay_out

from serving import PackageError
from serving.gateway_settings import Settings, SettingsError
from serving.reference import load_all

DIGEST = "sha256:" + "ab" * 32
GOOD = environment(Path("/models"), DIGEST, "127.83.1.1", "127.83.1.2:8001")


def test_a_full_environment_is_read() -> None:
    settings = Settings.read(GOOD)
    assert (settings.pod_ip, settings.port, settings.site) == ("127.83.1.1", 8080, "private")
    assert settings.accepted_digests == (DIGEST,)
    assert settings.health_token == TOKEN
    assert (settings.backend, settings.access_log) == ("cpu", False)


def test_several_digests_keep_their_order() -> None:
    other = "sha256:" + "cd" * 32
    assert Settings.read({**GOOD, "ACCEPTED_DIGESTS": f"{other}, {DIGEST}"}).accepted_digests == (other, DIGEST)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POD_IP", "$(POD_IP)"),
        ("PORT", "0"),
        ("PORT", "http"),
        ("SITE", ""),
        ("ACCEPTED_DIGESTS", ""),
        ("ACCEPTED_DIGESTS", "sha256:short"),
        ("ACCEPTED_DIGESTS", f"{DIGEST},{DIGEST}"),
        ("TRITON_URL", "$(TRITON_SERVICE_HOST):8001"),
        ("TRITON_URL", "http://127.83.1.2:8001"),
        ("TRITON_URL", ":"),
        ("GOLDEN_INTERVAL_SECONDS", "nan"),
        ("GOLDEN_INTERVAL_SECONDS", "0"),
        ("REQUEST_TIMEOUT_SECONDS", "3600"),
        ("BACKEND", "tpu"),
        ("ACCESS_LOG", "yes"),
        ("CONCURRENCY_LIMIT", "0"),
        ("CONCURRENCY_LIMIT", "10001"),
        ("HOLD_DOWN_SECONDS", "-1"),
        ("HOLD_DOWN_SECONDS", "601"),
        ("DRAIN_URL", "drain/private"),
        ("DRAIN_URL", "ftp://store/drain/private"),
        ("DRAIN_URL", "http:///drain/private"),
        ("DRAIN_URL", "http://$(STORE)/drain/private"),
        ("DRAIN_URL", "http://store:99999/drain/private"),
        ("DRAIN_URL", "http://who:secret@store/drain/private"),
        ("DRAIN_URL", "http://store/drain\r\nX: y"),
    ],
)
def test_a_bad_variable_is_named_with_its_value(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.read({**GOOD, name: value})
    assert f"{name}={value!r}: must be" in str(caught.value)


def test_what_need_not_be_said_has_its_default() -> None:
    settings = Settings.read(GOOD)
    assert (settings.concurrency_limit, settings.hold_down_seconds, settings.drain_url) == (128, 0.0, "")


def test_a_drain_mark_is_looked_for_with_the_token_it_must_hold() -> None:
    url = "https://signals.example.org:9443/drain/private?versionId=1"
    wanted = {**GOOD, "DRAIN_URL": url, "DRAIN_TOKEN": "tandem-drain-mark"}
    settings = Settings.read({**wanted, "CONCURRENCY_LIMIT": "16", "HOLD_DOWN_SECONDS": "20"})
    assert (settings.drain_url, settings.drain_token) == (url, "tandem-drain-mark")
    assert (settings.concurrency_limit, settings.hold_down_seconds) == (16, 20.0)
    with pytest.raises(SettingsError, match="DRAIN_TOKEN: must be"):
        Settings.read({**GOOD, "DRAIN_URL": url})
    assert Settings.read({**GOOD, "DRAIN_URL": ""}).drain_url == ""
    assert Settings.read({**wanted, "DRAIN_REGION": "eu-central-1"}).drain_region == "eu-central-1"
    with pytest.raises(SettingsError, match="DRAIN_REGION"):
        Settings.read({**wanted, "DRAIN_REGION": "eu\nHost: elsewhere"})


def test_a_bad_token_is_not_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.read({**GOOD, "HEALTH_TOKEN": "s3cret!"})
    assert "HEALTH_TOKEN: must be" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_everything_missing_is_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.read({})
    for name in ("POD_IP", "PORT", "SITE", "MODEL_DIR", "ACCEPTED_DIGESTS", "TRITON_URL", "HEALTH_TOKEN"):
        assert name in str(caught.value)


def test_the_reference_of_every_accepted_digest_must_be_there(tmp_path: Path) -> None:
    digest = build_package(tmp_path / "package")
    lay_out(tmp_path / "package", tmp_path / "models", digest)
    assert list(load_all(tmp_path / "models", [digest])) == [digest]
    with pytest.raises(PackageError, match="not the accepted sha256:abab"):
        load_all(tmp_path / "models", [digest, DIGEST])


def test_a_reference_changed_on_disk_is_refused(tmp_path: Path) -> None:
    digest = build_package(tmp_path / "package")
    lay_out(tmp_path / "package", tmp_path / "models", digest)
    golden = tmp_path / "models" / "reference" / "golden.json"
    golden.write_bytes(golden.read_bytes().replace(b"0.0001", b"0.0002"))
    with pytest.raises(PackageError, match=r"golden\.json"):
        load_all(tmp_path / "models", [digest])


def test_two_versions_side_by_side_are_read_in_the_order_they_are_accepted(tmp_path: Path) -> None:
    digests = []
    for seed in (1, 2):
        folder = tmp_path / "models" / "reference" / str(seed)
        digests.append(build_package(folder, seed=seed))
    assert list(load_all(tmp_path / "models", digests[::-1])) == digests[::-1]
