"""A snapshot is believed only byte for byte, from a trusted signer, for its own environment."""

from __future__ import annotations

import json
import random
import stat
from pathlib import Path

import pytest

from signals import SnapshotError, keys, snapshot
from signals.snapshot import Snapshot
from tests.signals import signal_stage

OUTPUTS = {"storage-private.lab": {"site": "private", "endpoint": "http://127.10.0.2:9000"}, "traffic.lab": {"ttl": 5}}


@pytest.fixture(autouse=True)
def no_keys_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(keys.SIGNING, raising=False)
    monkeypatch.delenv(keys.VERIFYING, raising=False)


def a_snapshot() -> Snapshot:
    return Snapshot.of("lab", OUTPUTS, "abc123")


def test_a_snapshot_reads_back_as_it_was_taken(tmp_path: Path) -> None:
    taken = a_snapshot()
    document = snapshot.sign(taken, tmp_path)
    assert snapshot.verify(document, "lab", tmp_path) == taken
    assert taken.digest == snapshot.outputs_digest(dict(reversed(OUTPUTS.items()))), "order is no difference"


def test_the_private_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    first = snapshot.sign(a_snapshot(), tmp_path)
    path = tmp_path / "lab" / "keys" / "signing.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    snapshot.sign(a_snapshot(), tmp_path)
    assert path.read_bytes() == before
    assert path.with_suffix(".pub").exists()
    assert b"PRIVATE" not in first


def test_every_changed_byte_is_refused(tmp_path: Path) -> None:
    document = snapshot.sign(a_snapshot(), tmp_path)
    chance = random.Random(4)  # noqa: S311  places to change, no secret
    signature = document.index(b'"signature":') + len(b'"signature":"')
    places = {*chance.sample(range(len(document)), 150), *range(signature + 80, signature + 89), len(document) - 1}
    for place in sorted(places):
        changed = bytearray(document)
        changed[place] ^= 1
        with pytest.raises(SnapshotError):
            snapshot.verify(bytes(changed), "lab", tmp_path)
    for padded in (document + b" ", b" " + document, document.replace(b'"key":', b'"key": '), document[:-1]):
        with pytest.raises(SnapshotError, match="bytes were added"):
            snapshot.verify(padded, "lab", tmp_path)


def test_a_changed_value_another_environment_and_an_unknown_key_are_refused_in_clear_words(tmp_path: Path) -> None:
    document = snapshot.sign(a_snapshot(), tmp_path)
    content = json.loads(document)
    content["snapshot"]["outputs"]["traffic.lab"]["ttl"] = 6
    forged = json.dumps(content, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    with pytest.raises(SnapshotError, match="it was changed after it was signed"):
        snapshot.verify(forged, "lab", tmp_path)
    foreign = snapshot.sign(a_snapshot(), tmp_path / "elsewhere")
    with pytest.raises(SnapshotError, match="which is not trusted here: trusted are"):
        snapshot.verify(foreign, "lab", tmp_path)
    (tmp_path / "prod" / "keys").mkdir(parents=True)
    (tmp_path / "prod" / "keys" / "ada.pub").write_bytes((tmp_path / "lab" / "keys" / "signing.pub").read_bytes())
    with pytest.raises(SnapshotError, match="of environment 'lab', not of 'prod'"):
        snapshot.verify(document, "prod", tmp_path)
    with pytest.raises(SnapshotError, match="is no signed snapshot"):
        snapshot.verify(json.dumps(OUTPUTS).encode(), "lab", tmp_path)
    with pytest.raises(SnapshotError, match="cannot be read"):
        snapshot.read(tmp_path / "nothing.json", "lab", tmp_path)


def test_a_colleagues_snapshot_is_believed_once_the_public_key_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = snapshot.sign(a_snapshot(), tmp_path / "theirs")
    public = tmp_path / "theirs" / "lab" / "keys" / "signing.pub"
    monkeypatch.setenv(keys.VERIFYING, str(public))
    assert snapshot.verify(document, "lab", tmp_path / "ours").env == "lab"
    monkeypatch.setenv(keys.VERIFYING, public.read_text())
    assert snapshot.verify(document, "lab", tmp_path / "ours").env == "lab"
    monkeypatch.delenv(keys.VERIFYING)
    monkeypatch.setenv(keys.SIGNING, (tmp_path / "theirs" / "lab" / "keys" / "signing.pem").read_text())
    assert snapshot.sign(a_snapshot(), tmp_path / "ours")
    assert snapshot.verify(document, "lab", tmp_path / "ours").env == "lab"
    assert not (tmp_path / "ours").exists(), "a key that is given is not written down"


@pytest.mark.parametrize("variable", [keys.SIGNING, keys.VERIFYING])
def test_a_key_that_is_none_is_refused_with_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    document = snapshot.sign(a_snapshot(), tmp_path)
    (tmp_path / "none.pem").write_text("no key")
    for value in (str(tmp_path / "none.pem"), str(tmp_path / "absent.pem"), "-----BEGIN nonsense"):
        monkeypatch.setenv(variable, value)
        with pytest.raises(SnapshotError, match=variable):
            snapshot.verify(document, "lab", tmp_path)


def test_it_lies_on_this_machine_and_in_every_store_and_a_store_that_is_away_does_not_stop_it(
    stores: signal_stage.Stores, tmp_path: Path
) -> None:
    taken = a_snapshot()
    written = snapshot.write(taken, tmp_path, stores.stores("private"))
    assert written["public"] is None
    assert "no answer" in str(written["private"])
    assert snapshot.read(snapshot.local(tmp_path, "lab"), "lab", tmp_path) == taken
    (public,) = stores.stores(only=("public",))
    stored = public.get(snapshot.KEY)
    assert stored is not None
    assert snapshot.verify(stored.body, "lab", tmp_path) == taken


def test_the_revision_outside_a_checkout_is_unknown(tmp_path: Path) -> None:
    assert snapshot.revision(tmp_path) == "unknown"
