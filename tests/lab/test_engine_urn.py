import pytest

from lab.engine.errors import ProgramError
from lab.engine.urn import Alias, Urn, child_urn, former_urns

STACK = "urn:pulumi:dev::tandem::pulumi:pulumi:Stack::tandem-dev"


def child(parent: str, kind: str, name: str) -> str:
    return child_urn("dev", "tandem", parent, kind, name)


def test_the_root_stack_adds_no_type_to_its_children() -> None:
    assert child(STACK, "aws:s3:Bucket", "models") == "urn:pulumi:dev::tandem::aws:s3:Bucket::models"


def test_a_urn_holds_the_whole_chain_of_parent_types() -> None:
    store = child(STACK, "tandem:storage:Store", "store")
    inner = child(store, "tandem:storage:Half", "half")
    bucket = child(inner, "aws:s3:Bucket", "models")
    assert bucket == "urn:pulumi:dev::tandem::tandem:storage:Store$tandem:storage:Half$aws:s3:Bucket::models"
    assert Urn.parse(bucket).type == "aws:s3:Bucket"


def test_a_name_may_hold_the_separator() -> None:
    urn = child(STACK, "aws:s3:Bucket", "a::b")
    assert Urn.parse(urn).name == "a::b"
    assert str(Urn.parse(urn)) == urn


def test_what_is_no_urn_is_refused_with_the_form_of_one() -> None:
    with pytest.raises(ProgramError, match="'models' is no URN; one reads urn:pulumi:"):
        Urn.parse("models")


@pytest.mark.parametrize(
    ("alias", "former"),
    [
        pytest.param(Alias(name="old"), "urn:pulumi:dev::tandem::t:m:P$aws:s3:Bucket::old", id="name"),
        pytest.param(Alias(type="aws:s3:Old"), "urn:pulumi:dev::tandem::t:m:P$aws:s3:Old::new", id="type"),
        pytest.param(Alias(parentless=True), "urn:pulumi:dev::tandem::aws:s3:Bucket::new", id="no parent"),
        pytest.param(Alias(parent=STACK), "urn:pulumi:dev::tandem::aws:s3:Bucket::new", id="the stack as parent"),
        pytest.param(Alias(stack="prod"), "urn:pulumi:prod::tandem::t:m:P$aws:s3:Bucket::new", id="stack"),
        pytest.param(Alias(urn="urn:pulumi:a::b::c:d:E::f"), "urn:pulumi:a::b::c:d:E::f", id="a whole urn"),
    ],
)
def test_an_alias_gives_the_parts_that_changed(alias: Alias, former: str) -> None:
    parent = child(STACK, "t:m:P", "parent")
    urn = child(parent, "aws:s3:Bucket", "new")
    assert former_urns(urn, parent, [alias], {}, kind="aws:s3:Bucket", name="new") == [former]


def test_a_child_inherits_the_former_name_of_its_parent() -> None:
    now = child(STACK, "t:m:P", "app")
    before = child(STACK, "t:m:P", "old")
    urn = child(now, "aws:s3:Bucket", "app-models")
    found = former_urns(urn, now, [], {now: before}, kind="aws:s3:Bucket", name="app-models")
    assert found == ["urn:pulumi:dev::tandem::t:m:P$aws:s3:Bucket::old-models"]
