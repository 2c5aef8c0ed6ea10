"""Exports in the stores: encrypted only, verified when they come back, the newest of them; what fails is said."""
# ruff: noqa: ARG002 - fakes take what the protocol hands them

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lab.state import forget_last_run
from signals import SnapshotError, export, keys
from signals.export import Export
from stacks.contract import StackName
from stacks.recover import Recovery
from stacks.runs import EngineError, Progress, StackFailed
from stacks.secret_marks import KEY, SECRET
from stacks.workspace import Workspace
from tests.signals import signal_stage

STORAGE, TRAFFIC = StackName.parse("storage-private.dev"), StackName.parse("traffic.dev")
LAYERS = [[STORAGE], [TRAFFIC]]


def state(stack: StackName, *names: str, kept_as: str = "ciphertext") -> str:
    key, mark = KEY, SECRET
    resources: list[dict[str, Any]] = [
        {"urn": f"urn:pulumi:{stack}::tandem::pulumi:pulumi:Stack::t", "type": "pulumi:pulumi:Stack", "custom": False}
    ]
    for name in names:
        urn = f"urn:pulumi:{stack}::tandem::echo:index:Thing::{name}"
        inputs = {"key": {key: mark, kept_as: "v1:abc"}}
        resources.append({"urn": urn, "type": "echo:index:Thing", "custom": True, "id": name, "inputs": inputs})
    return json.dumps({"version": 3, "deployment": {"resources": resources}})


@dataclass
class Backend:
    """An engine that only remembers."""

    states: dict[StackName, str] = field(default_factory=dict)
    broken: bool = False
    name = "remembering"

    def state(self, stack: StackName) -> str | None:
        if self.broken:
            raise StackFailed(stack, "the backend is away")
        return self.states.get(stack)

    def restore(self, stack: StackName, state: str) -> None:
        self.states[stack] = state

    def up(self, stack: StackName, progress: Progress) -> dict[str, int]:
        raise NotImplementedError

    destroy = preview = up

    def outputs(self, stack: StackName) -> dict[str, Any] | None:
        return None

    def interrupt(self) -> None:
        """Nothing runs."""


@pytest.fixture(autouse=True)
def no_keys_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(keys.SIGNING, raising=False)
    monkeypatch.delenv(keys.VERIFYING, raising=False)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def recovery(tmp_path: Path, said: list[str]) -> Recovery:
    backend = Backend({STORAGE: state(STORAGE, "bucket"), TRAFFIC: state(TRAFFIC, "record")})
    return Recovery(Workspace("dev", tmp_path, tmp_path / "home"), backend, said.append)


def backend(recovery: Recovery) -> Backend:
    assert isinstance(recovery.engine, Backend)
    return recovery.engine


def test_encrypted_exports_go_to_every_store_and_come_back_verified(
    recovery: Recovery, stores: signal_stage.Stores, said: list[str], tmp_path: Path
) -> None:
    with recovery.kept(LAYERS, stores.stores):
        pass
    assert not said
    for store in stores.stores():
        stored = store.get("state/traffic.dev.json")
        assert stored is not None
        home = recovery.workspace.home
        assert export.verify(stored.body, "dev", "traffic.dev", home, where="x").state == state(TRAFFIC, "record")
    found = recovery.fetch([STORAGE, TRAFFIC], stores.stores(), tmp_path / "fetched")
    assert {each.stack for each in found} == {"storage-private.dev", "traffic.dev"}
    backend(recovery).states.clear()
    assert set(recovery.restore([STORAGE, TRAFFIC], tmp_path / "fetched", over=False)) == {STORAGE, TRAFFIC}
    assert backend(recovery).states[STORAGE] == state(STORAGE, "bucket")


def test_a_state_with_a_plain_secret_stays_on_this_machine(
    recovery: Recovery, stores: signal_stage.Stores, said: list[str]
) -> None:
    backend(recovery).states[TRAFFIC] = state(TRAFFIC, "record", kept_as="plaintext")
    assert len(recovery.write([STORAGE, TRAFFIC], stores.stores)) == 2
    assert said == ["the state of traffic.dev holds secrets in plain text: it is exported to this machine only"]
    for store in stores.stores():
        assert store.get("state/traffic.dev.json") is None
        assert store.get("state/storage-private.dev.json") is not None


def test_in_the_lab_nothing_leaves_the_machine(stores: signal_stage.Stores, tmp_path: Path, said: list[str]) -> None:
    stack = StackName.parse("traffic.lab")
    lab = Recovery(Workspace("lab", tmp_path, tmp_path), Backend({stack: state(stack, "record")}), said.append)
    assert lab.write([stack], stores.stores)
    assert [store.get("state/traffic.lab.json") for store in stores.stores()] == [None, None]


def test_a_store_or_a_backend_that_is_away_is_said_and_stops_nothing(
    recovery: Recovery, stores: signal_stage.Stores, said: list[str]
) -> None:
    assert len(recovery.write([TRAFFIC], lambda: stores.stores("public"))) == 1
    assert len(said) == 1
    assert "the state of traffic.dev was not exported to the store of public" in said[0]
    said.clear()
    with recovery.kept(LAYERS, stores.stores):
        backend(recovery).broken = True
    assert sorted(each.partition(" was not exported: ")[0] for each in said) == [
        "the state of storage-private.dev", "the state of traffic.dev"
    ]  # fmt: skip


def test_the_newest_verified_export_is_fetched(
    recovery: Recovery, stores: signal_stage.Stores, said: list[str], tmp_path: Path
) -> None:
    home = recovery.workspace.home
    private, public = stores.stores()
    old = Export("dev", "traffic.dev", "2026-01-01T00:00:00+00:00", "r1", state(TRAFFIC))
    new = Export("dev", "traffic.dev", "2026-02-01T00:00:00+00:00", "r2", state(TRAFFIC, "record"))
    private.put(export.key_of("traffic.dev"), export.sign(new, home))
    public.put(export.key_of("traffic.dev"), export.sign(old, home))
    assert recovery.fetch([TRAFFIC], [private, public], tmp_path / "a") == [new]
    assert recovery.fetch([TRAFFIC], [public, private], tmp_path / "b") == [new]
    private.put(export.key_of("traffic.dev"), export.sign(new, home).replace(b"record", b"recore"))
    assert recovery.fetch([TRAFFIC], [private, public], tmp_path / "c") == [old]
    assert "it was changed after it was signed" in said[-1]
    with pytest.raises(EngineError, match=r"no store holds an export \(asked: none\)"):
        recovery.fetch([TRAFFIC], [], tmp_path / "d")


def test_an_export_nobody_can_believe_is_said_and_does_not_stop_an_up(recovery: Recovery, said: list[str]) -> None:
    recovery.write([TRAFFIC])
    path = recovery.folder / "traffic.dev.json"
    path.write_bytes(path.read_bytes().replace(b"record", b"recore"))
    with recovery.kept(LAYERS, list):
        pass
    assert len(said) == 1
    assert "nobody can say whether the state backend has lost traffic.dev" in said[0]


def test_an_export_of_another_stack_or_environment_is_not_believed(recovery: Recovery) -> None:
    home = recovery.workspace.home
    document = export.sign(Export.of("dev", "traffic.dev", "r", state(TRAFFIC)), home)
    with pytest.raises(SnapshotError, match=r"is of stack traffic\.dev, not of storage-private\.dev"):
        export.verify(document, "dev", "storage-private.dev", home, where="it")
    (home / "prod" / "keys").mkdir(parents=True)
    (home / "prod" / "keys" / "ada.pub").write_bytes((home / "dev" / "keys" / "signing.pub").read_bytes())
    with pytest.raises(SnapshotError, match="is of environment 'dev', not of 'prod'"):
        export.verify(document, "prod", "traffic.dev", home, where="it")


def test_a_failed_run_is_exported_and_its_failure_is_what_is_heard(recovery: Recovery) -> None:
    with pytest.raises(StackFailed, match="half-way"), recovery.kept(LAYERS, list):
        raise StackFailed(TRAFFIC, "half-way")
    assert (recovery.folder / "traffic.dev.json").exists()


def test_two_who_sign_first_at_once_sign_with_one_key(tmp_path: Path) -> None:
    def signer(number: int) -> str:
        return str(json.loads(export.sign(Export.of("dev", f"{number}", "r", ""), tmp_path / f"{number // 8}"))["key"])

    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(signer, range(64)))
    assert all(len(set(names[start : start + 8])) == 1 for start in range(0, 64, 8))


def test_exports_of_a_lab_end_with_its_clouds(tmp_path: Path) -> None:
    stack = StackName.parse("traffic.lab")
    lab = Recovery(Workspace("lab", tmp_path, tmp_path), Backend({stack: state(stack, "record")}), print)
    lab.write([stack])
    backend(lab).states.clear()
    with pytest.raises(EngineError, match="the state backend records nothing of"), lab.kept([[stack]], list):
        pytest.fail("it went on")
    forget_last_run(tmp_path)
    with lab.kept([[stack]], list):
        pass
