import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from lab.engine.difference import Difference
from lab.engine.errors import StateError
from lab.engine.folder import StateFolder
from lab.engine.removal import dependents_to_replace, waves
from lab.engine.snapshot import Snapshot
from lab.engine.state import Operation, Resource, State
from lab.engine.values import UNKNOWN, secret


def thing(name: str, *needs: str, **more: object) -> Resource:
    return Resource(
        f"urn:{name}", "echo:index:Thing", custom=True, id=name, dependencies=[f"urn:{each}" for each in needs], **more
    )


def names(groups: list[list[Resource]]) -> list[list[str]]:
    return [sorted(each.id for each in group) for group in groups]


def test_what_needs_another_goes_before_it() -> None:
    chain = [thing("a"), thing("b", "a"), thing("c", "a"), thing("d", "b", "c")]
    assert names(waves(chain)) == [["d"], ["b", "c"], ["a"]]


@pytest.mark.parametrize("edge", ["parent", "deleted_with", "provider", "property"])
def test_every_kind_of_edge_orders_deletion(edge: str) -> None:
    child = thing("child")
    if edge == "property":
        child.property_dependencies = {"x": ["urn:root"]}
    else:
        setattr(child, edge, "urn:root::id" if edge == "provider" else "urn:root")
    assert names(waves([thing("root"), child])) == [["child"], ["root"]]


def test_a_cycle_in_a_damaged_state_does_not_hang() -> None:
    assert names(waves([thing("a", "b"), thing("b", "a")])) == [["b"], ["a"]]


def test_only_dependents_that_would_be_replaced_go_with_a_resource_deleted_first() -> None:
    root = thing("root")
    fed = thing("fed", inputs={"x": 1}, property_dependencies={"x": ["urn:root"]})
    loose = thing("loose", "root")
    behind = thing("behind", inputs={"y": 1}, property_dependencies={"y": ["urn:fed"]})
    kept = thing("kept", inputs={"z": 1}, property_dependencies={"z": ["urn:root"]})

    def compare(dependent: Resource, inputs: dict[str, object]) -> Difference:
        return Difference(replaces=[key for key, value in inputs.items() if value == UNKNOWN and key != "z"])

    found = dependents_to_replace(root, [root, fed, loose, behind, kept], compare)
    assert [each.id for each in found] == ["fed", "behind"]


def test_a_state_has_the_deployment_v3_shape_and_comes_back_whole(tmp_path: Path) -> None:
    resource = thing(
        "a", "b", inputs={"k": secret("s")}, outputs={"n": 1}, protect=True, provider="urn:p::id",
        property_dependencies={"k": ["urn:b"]}, custom_timeouts={"create": 5.0},
        deleted_with="urn:b", init_errors=["ill"],
    )  # fmt: skip
    state = State([resource], [Operation("creating", thing("c"))])
    path = tmp_path / "stack.json"
    state.save(path)
    content = json.loads(path.read_text())
    assert content["version"] == 3
    deployment = content["deployment"]
    assert set(deployment) == {"manifest", "resources", "pending_operations"}
    assert deployment["pending_operations"][0]["type"] == "creating"
    assert deployment["resources"][0]["propertyDependencies"] == {"k": ["urn:b"]}
    assert "retainOnDelete" not in deployment["resources"][0]
    assert State.load(path) == state
    assert path.stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", ["{", "[]", '{"version": 3}', '{"version": 9, "deployment": {}}'])
def test_what_is_no_state_is_refused_with_its_path(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(StateError, match=r"x\.json"):
        State.load(tmp_path / "x.json")


def test_a_step_that_began_is_on_disk_before_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "stack.json"
    snapshot = Snapshot(State([thing("old")]), path)
    operation = snapshot.begin("creating", thing("new"))
    assert [each.resource.id for each in State.load(path).operations] == ["new"]
    snapshot.end(operation, put=thing("new"), retire=snapshot.find("urn:old"))
    after = State.load(path)
    assert not after.operations
    assert [(each.id, each.delete) for each in after.resources] == [("new", False), ("old", True)]


@pytest.mark.parametrize("interrupted", [False, True])
def test_what_is_as_recorded_is_written_only_when_that_settles_a_question(tmp_path: Path, interrupted: bool) -> None:
    path = tmp_path / "stack.json"
    state = State([thing("a")], [Operation("updating", thing("a"))] if interrupted else [])
    snapshot = Snapshot(state, path)
    snapshot.end(None, put=thing("a"), drop=snapshot.find("urn:a"))
    assert path.exists() == interrupted
    assert [each.id for each in snapshot.state().resources] == ["a"]


def test_what_differs_in_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "stack.json"
    snapshot = Snapshot(State([thing("a")]), path)
    snapshot.end(None, put=thing("a", protect=True), drop=snapshot.find("urn:a"))
    assert State.load(path).resources == [thing("a", protect=True)]


def test_an_uncertain_end_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "stack.json"
    snapshot = Snapshot(State(), path)
    snapshot.end(snapshot.begin("creating", thing("new")), uncertain=True)
    assert [each.type for each in Snapshot(State.load(path), None).interrupted.values()] == ["creating"]


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    state = State([thing("old")])
    snapshot = Snapshot(state, None)
    snapshot.end(snapshot.begin("deleting", state.resources[0]), drop=snapshot.find("urn:old"))
    assert not list(tmp_path.iterdir())
    assert [each.id for each in state.resources] == ["old"]


def test_references_follow_a_renamed_resource() -> None:
    child = thing("child", "a", parent="urn:a", provider="urn:a::7", property_dependencies={"x": ["urn:a"]})
    child.rename("urn:a", "urn:b")
    assert child.needs == {"urn:b"}
    assert child.provider == "urn:b::7"


def hold(folder: Path, held: object) -> None:
    with StateFolder(folder).locked("dev"):
        held.set()  # type: ignore[attr-defined]
        signal.pause()


def test_a_stack_is_locked_for_one_run_and_free_when_its_holder_is_killed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    holder = context.Process(target=hold, args=(tmp_path, held))
    holder.start()
    try:
        assert held.wait(30)
        with pytest.raises(StateError, match=f'"pid": {holder.pid}'), StateFolder(tmp_path).locked("dev"):
            pass
        with StateFolder(tmp_path).locked("other"):
            pass
    finally:
        os.kill(holder.pid or 0, signal.SIGKILL)
        holder.join(30)
    with StateFolder(tmp_path).locked("dev"):
        pass


def test_outputs_of_a_stack_that_is_not_up_say_how_to_bring_it_up(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="bring it up first: tandem up --env lab --stack storage-private"):
        StateFolder(tmp_path).outputs("storage-private.lab")
