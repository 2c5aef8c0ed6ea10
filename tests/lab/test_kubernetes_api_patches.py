"""Strategic merge by the schema's keys, and the ownership of fields under server-side apply."""

from __future__ import annotations

from typing import Any

import pytest

from lab.kubernetes.api import kinds
from lab.kubernetes.api.errors import BadRequest, Conflict, Invalid
from lab.kubernetes.api.patching import PatchType, patched
from lab.kubernetes.api.store import Store

DEPLOYMENT: dict[str, Any] = {
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "containers": [
                    {
                        "name": "main",
                        "image": "web:1",
                        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                        "ports": [{"containerPort": 80, "name": "http"}],
                        "args": ["one", "two"],
                        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                    },
                    {"name": "side", "image": "side:1"},
                ],
                "volumes": [{"name": "data", "emptyDir": {}}],
                "tolerations": [{"key": "a", "operator": "Exists"}],
            },
        },
    },
}


def strategic(patch: dict[str, Any]) -> dict[str, Any]:
    """DEPLOYMENT's pod spec after a strategic merge into it."""
    whole = patched(kinds.DEPLOYMENT, DEPLOYMENT, {"spec": {"template": {"spec": patch}}}, PatchType.STRATEGIC)
    spec: dict[str, Any] = whole["spec"]["template"]["spec"]
    return spec


def names(items: list[dict[str, Any]]) -> list[str]:
    return [item["name"] for item in items]


class TestStrategicMerge:
    def test_containers_are_merged_by_name(self) -> None:
        spec = strategic({"containers": [{"name": "main", "image": "web:2"}, {"name": "new", "image": "new:1"}]})
        assert names(spec["containers"]) == ["main", "side", "new"]
        assert (spec["containers"][0]["image"], spec["containers"][0]["args"]) == ("web:2", ["one", "two"])

    def test_env_ports_and_mounts_are_merged_by_their_keys(self) -> None:
        changed = {
            "name": "main",
            "env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}],
            "ports": [{"containerPort": 80, "name": "web"}, {"containerPort": 81}],
            "volumeMounts": [{"mountPath": "/data", "readOnly": True, "name": "data"}],
        }
        main = strategic({"containers": [changed]})["containers"][0]
        assert [(entry["name"], entry["value"]) for entry in main["env"]] == [("A", "1"), ("B", "3"), ("C", "4")]
        assert main["ports"] == [{"containerPort": 80, "name": "web"}, {"containerPort": 81}]
        assert main["volumeMounts"] == [{"name": "data", "mountPath": "/data", "readOnly": True}]

    def test_plain_lists_and_tolerations_are_replaced(self) -> None:
        spec = strategic({"tolerations": [{"key": "b"}], "containers": [{"name": "main", "args": ["three"]}]})
        assert (spec["tolerations"], spec["containers"][0]["args"]) == ([{"key": "b"}], ["three"])

    def test_null_takes_a_field_away(self) -> None:
        assert "args" not in strategic({"containers": [{"name": "main", "args": None}]})["containers"][0]

    def test_a_directive_deletes_an_item(self) -> None:
        spec = strategic(
            {"containers": [{"name": "side", "$patch": "delete"}], "volumes": [{"name": "x", "$patch": "delete"}]}
        )
        assert (names(spec["containers"]), names(spec["volumes"])) == (["main"], ["data"])

    def test_a_directive_replaces_a_list_or_a_map(self) -> None:
        spec = strategic({"containers": [{"name": "only", "image": "i"}, {"$patch": "replace"}]})
        assert names(spec["containers"]) == ["only"]
        assert strategic({"$patch": "replace", "containers": []}) == {"containers": []}

    def test_the_order_of_a_list_can_be_set(self) -> None:
        order = [{"name": "side"}, {"name": "main"}]
        assert names(strategic({"$setElementOrder/containers": order})["containers"]) == ["side", "main"]

    def test_only_the_keys_to_be_retained_stay(self) -> None:
        volume = {"name": "data", "hostPath": {"path": "/x"}, "$retainKeys": ["name", "hostPath"]}
        assert strategic({"volumes": [volume]})["volumes"] == [{"name": "data", "hostPath": {"path": "/x"}}]

    def test_conditions_are_merged_by_type(self) -> None:
        obj = {"metadata": {"name": "p"}, "status": {"conditions": [{"type": "Ready", "status": "False"}]}}
        patch = {
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}]}
        }
        after = patched(kinds.POD, obj, patch, PatchType.STRATEGIC)
        assert [(entry["type"], entry["status"]) for entry in after["status"]["conditions"]] == [
            ("Ready", "True"),
            ("PodScheduled", "True"),
        ]

    def test_ports_of_a_service_are_merged_by_port(self) -> None:
        service = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]}}
        after = patched(
            kinds.SERVICE, service, {"spec": {"ports": [{"port": 81, "targetPort": 9}]}}, PatchType.STRATEGIC
        )
        assert after["spec"]["ports"] == [{"port": 80, "name": "a"}, {"port": 81, "name": "b", "targetPort": 9}]

    def test_an_item_without_its_key_is_refused(self) -> None:
        with pytest.raises(BadRequest, match="does not contain declared merge key: name"):
            strategic({"containers": [{"image": "x"}]})

    def test_the_object_itself_stays_as_it_is(self) -> None:
        before = repr(DEPLOYMENT)
        strategic({"containers": [{"name": "main", "env": [{"name": "A", "$patch": "delete"}]}]})
        assert repr(DEPLOYMENT) == before


class TestOtherPatches:
    def test_merge_patch_replaces_lists(self) -> None:
        after = patched(
            kinds.DEPLOYMENT,
            DEPLOYMENT,
            {"spec": {"replicas": None, "template": {"spec": {"volumes": []}}}},
            PatchType.MERGE,
        )
        assert "replicas" not in after["spec"]
        assert after["spec"]["template"]["spec"]["volumes"] == []

    def test_json_patch_applies_whole_or_not_at_all(self) -> None:
        operations = [
            {"op": "test", "path": "/spec/replicas", "value": 2},
            {"op": "replace", "path": "/spec/replicas", "value": 5},
        ]
        assert patched(kinds.DEPLOYMENT, DEPLOYMENT, operations, PatchType.JSON)["spec"]["replicas"] == 5
        operations[0]["value"] = 3
        with pytest.raises(Invalid, match="does not fit"):
            patched(kinds.DEPLOYMENT, DEPLOYMENT, operations, PatchType.JSON)
        with pytest.raises(BadRequest, match="list of operations"):
            patched(kinds.DEPLOYMENT, DEPLOYMENT, {}, PatchType.JSON)
        with pytest.raises(BadRequest):
            patched(kinds.DEPLOYMENT, DEPLOYMENT, [{"op": "jump", "path": "/spec"}], PatchType.JSON)


class TestApply:
    @pytest.fixture
    def store(self) -> Store:
        return Store(first_version=1)

    def apply(self, store: Store, config: dict[str, Any], manager: str = "tandem", **options: Any) -> dict[str, Any]:
        return store.patch(
            kinds.DEPLOYMENT, "default", "web", config, PatchType.APPLY, field_manager=manager, **options
        )

    def without(self, *path: Any) -> dict[str, Any]:
        operations = [{"op": "remove", "path": "/" + "/".join(map(str, path))}]
        return patched(kinds.DEPLOYMENT, DEPLOYMENT, operations, PatchType.JSON)

    def test_creates_what_is_absent_and_changes_nothing_the_second_time(self, store: Store) -> None:
        first = self.apply(store, DEPLOYMENT)
        second = self.apply(store, DEPLOYMENT)
        assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]

    def test_needs_a_manager(self, store: Store) -> None:
        with pytest.raises(BadRequest, match="fieldManager: Required value"):
            self.apply(store, DEPLOYMENT, "")

    def test_a_field_left_out_goes_unless_another_manager_owns_it(self, store: Store) -> None:
        self.apply(store, DEPLOYMENT)
        self.apply(
            store,
            {"spec": {"template": {"spec": {"containers": [{"name": "main", "env": [{"name": "A", "value": "1"}]}]}}}},
            "other",
        )
        after = self.apply(store, self.without("spec", "template", "spec", "containers", 0, "env"))
        env = after["spec"]["template"]["spec"]["containers"][0]["env"]
        assert env == [{"name": "A", "value": "1"}]

    def test_an_item_left_out_goes_whole(self, store: Store) -> None:
        self.apply(store, DEPLOYMENT)
        after = self.apply(store, self.without("spec", "template", "spec", "containers", 1))
        assert names(after["spec"]["template"]["spec"]["containers"]) == ["main"]

    def test_a_field_another_manager_set_differently_is_a_conflict_unless_forced(self, store: Store) -> None:
        self.apply(store, DEPLOYMENT)
        store.patch(
            kinds.DEPLOYMENT,
            "default",
            "web",
            {"spec": {"replicas": 7}},
            PatchType.MERGE,
            subresource="scale",
            field_manager="drill",
        )
        with pytest.raises(Conflict) as refused:
            self.apply(store, DEPLOYMENT)
        cause = refused.value.status()["details"]["causes"][0]
        assert (cause["field"], cause["reason"]) == (".spec.replicas", "FieldManagerConflict")
        assert 'conflict with "drill" using apps/v1' in cause["message"]
        assert self.apply(store, DEPLOYMENT, force=True)["spec"]["replicas"] == 2
        assert self.apply(store, {**DEPLOYMENT}, "tandem")["spec"]["replicas"] == 2

    def test_equal_values_are_owned_by_both(self, store: Store) -> None:
        self.apply(store, DEPLOYMENT)
        self.apply(store, {"spec": {"replicas": 2}}, "other")
        after = self.apply(store, self.without("spec", "replicas"))
        assert after["spec"]["replicas"] == 2
        assert self.apply(store, {}, "other")["spec"]["replicas"] == 1, "nobody owns it any more: the default"

    def test_what_a_controller_wrote_stays(self, store: Store) -> None:
        self.apply(store, DEPLOYMENT)
        store.patch(
            kinds.DEPLOYMENT,
            "default",
            "web",
            {"metadata": {"annotations": {"deployment.kubernetes.io/revision": "1"}}},
            PatchType.MERGE,
        )
        assert self.apply(store, DEPLOYMENT)["metadata"]["annotations"] == {"deployment.kubernetes.io/revision": "1"}

    def test_new_items_stand_where_the_config_puts_them(self, store: Store) -> None:
        self.apply(store, DEPLOYMENT)
        config = patched(kinds.DEPLOYMENT, DEPLOYMENT, {}, PatchType.MERGE)
        pod = {**config["spec"]["template"]["spec"]}
        pod["containers"] = [{"name": "first", "image": "f"}, *pod["containers"]]
        config = patched(kinds.DEPLOYMENT, DEPLOYMENT, {"spec": {"template": {"spec": pod}}}, PatchType.MERGE)
        assert names(self.apply(store, config)["spec"]["template"]["spec"]["containers"]) == ["first", "main", "side"]

    def test_a_put_takes_ownership_of_what_it_changes(self, store: Store) -> None:
        self.apply(store, DEPLOYMENT)
        obj = store.get(kinds.DEPLOYMENT, "default", "web")
        obj["spec"]["template"]["spec"]["containers"][0]["image"] = "web:9"
        store.update(kinds.DEPLOYMENT, obj, field_manager="editor")
        with pytest.raises(Conflict, match=r'containers\[name="main"\]\.image'):
            self.apply(store, DEPLOYMENT)

    def test_of_a_custom_resource_and_of_a_status(self, store: Store) -> None:
        config: dict[str, Any] = {"metadata": {"name": "gpu"}, "spec": {"replicas": 1, "template": {"spec": {"a": 1}}}}
        arguments = (kinds.MACHINE_SET, "default", "gpu")
        store.patch(*arguments, config, PatchType.APPLY, field_manager="tandem")
        done = store.patch(
            *arguments, {"status": {"replicas": 1}}, PatchType.APPLY, subresource="status", field_manager="capi"
        )
        assert done["status"] == {"replicas": 1}
        after = store.patch(
            *arguments,
            {"spec": {"replicas": 1, "template": {"spec": {"b": 2}}}},
            PatchType.APPLY,
            field_manager="tandem",
        )
        assert after["spec"] == {"replicas": 1, "template": {"spec": {"b": 2}}}
        assert after["status"] == {"replicas": 1}

    def test_a_dry_run_changes_neither_object_nor_owners(self, store: Store) -> None:
        self.apply(store, DEPLOYMENT)
        before = store.resource_version
        self.apply(store, {"spec": {"replicas": 9}}, "other", force=True, dry_run=True)
        assert store.resource_version == before
        assert self.apply(store, DEPLOYMENT)["spec"]["replicas"] == 2
