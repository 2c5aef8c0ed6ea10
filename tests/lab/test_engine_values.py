import json
from pathlib import Path

import pytest

from lab.engine.difference import changed_paths, compare, covers, keep_ignored, parse_path
from lab.engine.errors import ProgramError, ProjectError, ResourceError
from lab.engine.goal import referenced_stack, seconds
from lab.engine.graph import Graph
from lab.engine.loopback import refuse_others
from lab.engine.project import load_project, load_settings
from lab.engine.values import (
    UNKNOWN,
    from_state,
    keep_secret,
    mask,
    read,
    reveal,
    secret,
    to_state,
    unknown_paths,
    write,
)

URN = "urn:pulumi:dev::tandem::a:b:C::it"


def test_properties_survive_the_wire_with_whole_numbers_as_int() -> None:
    properties = {"a": 1, "b": 2.5, "c": None, "d": [True, "x", {"e": []}], "f": secret({"g": UNKNOWN})}
    assert read(write(properties)) == properties
    assert isinstance(read(write({"a": 1}))["a"], int)


def test_secrets_are_masked_kept_in_the_state_and_found_again() -> None:
    value = {"a": secret({"b": [1, "two"]}), "c": [secret("d")]}
    assert mask(value) == {"a": "[secret]", "c": ["[secret]"]}
    stored = to_state(value)
    assert json.loads(stored["a"]["plaintext"]) == {"b": [1, "two"]}
    assert from_state(json.loads(json.dumps(stored))) == value
    assert reveal(value) == {"a": {"b": [1, "two"]}, "c": ["d"]}


def test_an_output_is_secret_where_the_input_was() -> None:
    inputs = {"spec": {"key": secret("k"), "name": "n"}, "list": [secret("x")]}
    outputs = {"spec": {"key": "k", "name": "n", "uid": 7}, "list": ["x", "y"]}
    assert mask(keep_secret(outputs, inputs)) == {
        "spec": {"key": "[secret]", "name": "n", "uid": 7},
        "list": ["[secret]", "y"],
    }


def test_unknowns_are_found_through_secrets() -> None:
    value = {"a": {"b": [1, UNKNOWN]}, "c": secret({"d": UNKNOWN})}
    assert sorted(unknown_paths(value)) == [("a", "b", 1), ("c", "d")]


def test_differences_come_in_the_order_of_the_new_value_and_name_leaves() -> None:
    old = {"z": 1, "tags": {"a": "1", "gone": "x"}, "ports": [1, 2]}
    new = {"tags": {"b": "2", "a": "1"}, "z": 2, "ports": [1, 3, 4]}
    assert changed_paths(old, new) == [("tags", "b"), ("tags", "gone"), ("z",), ("ports", 1), ("ports", 2)]
    difference = compare(old, new)
    assert difference.keys == ["tags", "z", "ports"]
    assert {path: each["kind"] for path, each in difference.details.items()} == {
        "tags.b": "add", "tags.gone": "delete", "z": "update", "ports[1]": "update", "ports[2]": "add",
    }  # fmt: skip


def test_becoming_secret_is_no_difference() -> None:
    assert not compare({"a": "x"}, {"a": secret("x")}).changed


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a", ("a",)),
        ("spec.ports[0].name", ("spec", "ports", 0, "name")),
        ('tags["a.b"]', ("tags", "a.b")),
        ("list[*].x", ("list", "*", "x")),
    ],
)
def test_property_paths_are_read_as_pulumi_writes_them(text: str, path: tuple[str | int, ...]) -> None:
    assert parse_path(text) == path


def test_a_broken_property_path_is_refused() -> None:
    with pytest.raises(ProgramError, match="is no property path"):
        parse_path("a[")


def test_a_pattern_covers_what_lies_in_it_and_what_holds_it() -> None:
    assert covers(parse_path("spec.replicas"), ("spec", "replicas"))
    assert covers(parse_path("spec"), ("spec", "replicas"))
    assert covers(parse_path("spec[*].a"), ("spec", 3, "a"))
    assert not covers(parse_path("spec.replicas"), ("spec", "image"))


def test_ignored_changes_keep_the_recorded_value() -> None:
    old = {"tags": {"a": "old"}, "size": 1, "list": [{"x": 1, "y": 1}]}
    new = {"tags": {"a": "new", "b": "new"}, "size": 2, "list": [{"x": 2, "y": 2}]}
    kept = keep_ignored(new, old, ["tags.a", "size", "list[*].x", "absent.path"])
    assert kept == {"tags": {"a": "old", "b": "new"}, "size": 1, "list": [{"x": 1, "y": 2}]}
    assert new["size"] == 2


def test_a_property_that_lost_its_value_since_the_dry_run_is_named_with_its_source() -> None:
    graph = Graph()
    graph.record(URN, "inputs", {"zoneId": UNKNOWN}, {"zoneId": ["urn:zone"]})
    graph.verify(URN, "inputs", {"zoneId": "Z1"}, {"zoneId": ["urn:zone", "urn:more"]})
    with pytest.raises(ResourceError, match="input 'zoneId' has no value: it comes from an output of urn:zone"):
        graph.verify(URN, "inputs", {}, {})


def test_a_lost_edge_is_named() -> None:
    graph = Graph()
    graph.record(URN, "inputs", {"spec": {"a": 1}}, {"spec": ["urn:one", "urn:two"]})
    with pytest.raises(ResourceError, match="input 'spec' depended on urn:two in the dry run"):
        graph.verify(URN, "inputs", {"spec": {"a": 1}}, {"spec": ["urn:one"]})


@pytest.mark.parametrize(
    ("package", "inputs", "reason"),
    [
        (
            "aws",
            {"endpoints": '[{"s3": "https://s3.amazonaws.com"}]'},
            r"endpoints\[0\]\.s3 is 'https://s3.amazonaws.com'",
        ),
        ("aws", {"region": "us-east-1"}, "endpoints names no address"),
        ("aws", {"endpoints": '[{"s3": "http://127.10.0.2:9000", "sts": "http://localhost.example"}]'}, r"sts is"),
        ("kubernetes", {"kubeconfig": "/home/someone/.kube/config"}, "kubeconfig names no address"),
        (
            "kubernetes",
            {"kubeconfig": "clusters:\n- cluster:\n    server: https://10.0.0.1:6443\n"},
            "server is 'https://10",
        ),
        ("echo", {"url": secret("http://192.168.1.1/")}, "url is"),
    ],
)
def test_a_provider_that_reaches_past_this_machine_is_refused(package: str, inputs: dict, reason: str) -> None:
    with pytest.raises(ResourceError, match=reason):
        refuse_others(URN, package, inputs)


@pytest.mark.parametrize(
    ("package", "inputs"),
    [
        ("aws", {"endpoints": '[{"s3": "http://127.10.0.2:9000"}]'}),
        ("aws", {"endpoints": UNKNOWN}),
        ("kubernetes", {"kubeconfig": '{"clusters": [{"cluster": {"server": "http://127.20.0.1:6443"}}]}'}),
        ("echo", {"region": "east"}),
    ],
)
def test_loopback_and_unknown_settings_pass(package: str, inputs: dict) -> None:
    refuse_others(URN, package, inputs)


def test_a_stack_reference_is_of_this_project() -> None:
    assert referenced_stack("organization/tandem/storage-private.lab", "tandem") == "storage-private.lab"
    assert referenced_stack("storage-private.lab", "tandem") == "storage-private.lab"
    with pytest.raises(ProgramError, match="not of project 'tandem'"):
        referenced_stack("organization/other/storage", "tandem")


def test_timeouts_are_durations() -> None:
    assert seconds("1h30m", URN) == 5400
    assert seconds("90s", URN) == 90
    with pytest.raises(ResourceError, match="'soon' is no duration"):
        seconds("soon", URN)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "__main__.py").touch()
    (tmp_path / "Pulumi.yaml").write_text(
        """
name: tandem
runtime: {name: python}
main: stacks/
config:
  count: {type: integer, default: 3}
  names: {type: array, items: {type: string}, default: []}
  endpoints: {type: object, default: {}}
  enabled: {type: boolean, default: false}
  key: {secret: true, default: ""}
"""
    )
    return tmp_path


def settings(project: Path, text: str) -> dict[str, str]:
    (project / "stack.yaml").write_text(text)
    return load_settings(load_project(project), project / "stack.yaml", "dev").values


def test_settings_reach_the_program_as_the_cli_sends_them(project: Path) -> None:
    text = (
        "config: {tandem:count: '5', tandem:flt: 2.0, tandem:half: 2.5, tandem:enabled: true, tandem:day: 2026-01-02, "
    )
    values = settings(project, text + "tandem:free: {b: [1, null], a: ü}, 'aws:region': no}")
    assert values == {
        "tandem:count": "5", "tandem:flt": "2", "tandem:half": "2.5", "tandem:enabled": "true",
        "tandem:day": "2026-01-02",
        "tandem:free": '{"a":"ü","b":[1,null]}', "aws:region": "no",
        "tandem:names": "[]", "tandem:endpoints": "{}", "tandem:key": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("config: {tandem:count: many}", "tandem:count is 'many'; it must be of type integer"),
        ("config: {tandem:names: [1]}", "must be of type array<string>"),
        ("config: {tandem:endpoints: text}", "must be of type object"),
        ("config: {tandem:key: {secure: abc}}", "tandem:key is encrypted"),
        ("config: {count: 3}", "'count' has no namespace"),
        ("config: [", "is no YAML"),
        ("- a", "its top has to be a mapping"),
    ],
)
def test_a_bad_setting_fails_with_value_rule_and_remedy(project: Path, text: str, reason: str) -> None:
    with pytest.raises(ProjectError, match=reason):
        settings(project, text)


def test_a_declared_key_without_default_has_to_be_set(project: Path) -> None:
    with (project / "Pulumi.yaml").open("a") as file:
        file.write("  must: {type: string}\n")
    with pytest.raises(ProjectError, match="missing configuration: tandem:must"):
        settings(project, "config: {}")


def test_declared_secrets_are_secret_and_masked(project: Path) -> None:
    (project / "stack.yaml").write_text("config: {tandem:key: hush}")
    loaded = load_settings(load_project(project), project / "stack.yaml", "dev")
    assert loaded.secret_keys == {"tandem:key"}
    assert loaded.masked()["tandem:key"] == "[secret]"
