from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_stage import a_package, a_store, absent_endpoint, moto_server, use_credentials

from serving import PackageError, StoreError, StoreUnreachableError
from serving.manifest import read
from serving.store import Store, check_version, object_key, publish, versions

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    # Servers of one process share their buckets, so the two stores are two buckets of one.
    with moto_server("127.83.0.1") as url:
        yield url


@pytest.fixture
def stores(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Store, Store]:
    use_credentials(monkeypatch)
    bucket = f"models-{uuid.uuid4().hex[:12]}"
    return a_store(endpoint, "private", f"{bucket}-private"), a_store(endpoint, "public", f"{bucket}-public")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return a_package(tmp_path)


def key(package: Path, name: str) -> str:
    return object_key("recommender", f"sha256:{package.name}", name)


def overwrite(store: Store, name: str, data: bytes) -> None:
    store.client.put_object(Bucket=store.bucket, Key=name, Body=data)


def test_a_published_version_is_selectable_and_lies_whole_in_both_stores(
    package: Path, stores: tuple[Store, Store]
) -> None:
    publication = publish(package, stores)
    assert publication.selectable
    assert publication.outcome == {"private": None, "public": None}
    for store in stores:
        assert check_version(store, "recommender", publication.digest) == read(package)


def test_publishing_twice_writes_nothing_twice(package: Path, stores: tuple[Store, Store]) -> None:
    publish(package, stores)
    before = dict(stores[0].keys("models/"))
    assert publish(package, stores).selectable
    assert dict(stores[0].keys("models/")) == before


def test_other_bytes_under_a_versions_name_are_never_overwritten(package: Path, stores: tuple[Store, Store]) -> None:
    overwrite(stores[1], key(package, "model.onnx"), b"other")
    publication = publish(package, stores)
    assert not publication.selectable
    assert publication.outcome["private"] is None
    reason = publication.outcome["public"] or ""
    assert f"public: s3://{stores[1].bucket}/{key(package, 'model.onnx')}" in reason
    assert "other bytes are there already; a version is never overwritten" in reason
    assert stores[1].get(key(package, "model.onnx")) == b"other"


def test_a_version_that_one_store_lacks_is_announced_in_none(package: Path, stores: tuple[Store, Store]) -> None:
    down = Store(name="public", endpoint=absent_endpoint(), bucket=stores[0].bucket)
    publication = publish(package, (stores[0], down))
    assert not publication.selectable
    assert publication.outcome["private"] is None
    assert "public: s3://" in (publication.outcome["public"] or "")
    assert "no answer" in (publication.outcome["public"] or "")
    assert versions([stores[0]], "recommender") == []


def test_publishing_again_once_the_store_is_back_completes_it(package: Path, stores: tuple[Store, Store]) -> None:
    publish(package, (stores[0], Store(name="public", endpoint=absent_endpoint(), bucket="b")))
    assert publish(package, stores).selectable


def test_a_store_that_loses_bytes_after_a_good_answer_is_caught_by_reading_back(
    package: Path, stores: tuple[Store, Store]
) -> None:
    truncated = Store(name="private", endpoint=stores[0].endpoint, bucket=stores[0].bucket)

    def lose_half(params: dict[str, object], **_: object) -> None:
        if str(params["Key"]).endswith("model.onnx"):
            params["Body"] = bytes(params["Body"])[:2000]  # type: ignore[call-overload]  # a body of bytes

    truncated.client.meta.events.register("provide-client-params.s3.PutObject", lose_half)
    publication = publish(package, (truncated, stores[1]))
    assert "model.onnx at http" in (publication.outcome["private"] or "")
    assert "2000 bytes, but the manifest says 4000" in (publication.outcome["private"] or "")
    assert not publication.selectable


def test_a_package_that_is_not_its_manifest_is_not_published(package: Path, stores: tuple[Store, Store]) -> None:
    (package / "golden.json").write_bytes(b"{}")
    with pytest.raises(PackageError, match=r"golden\.json"):
        publish(package, stores)
    assert list(stores[0].keys("models/")) == []


@pytest.mark.parametrize("damaged", ["model.onnx", "golden.json", "manifest.json"])
def test_a_version_overwritten_later_fails_its_check_by_name(
    package: Path, stores: tuple[Store, Store], damaged: str
) -> None:
    digest = publish(package, stores).digest
    overwrite(stores[0], key(package, damaged), b"overwritten")
    with pytest.raises(PackageError, match=f"private: s3://.*{damaged}"):
        check_version(stores[0], "recommender", digest)
    check_version(stores[1], "recommender", digest)


def test_a_missing_object_is_named(package: Path, stores: tuple[Store, Store]) -> None:
    digest = publish(package, stores).digest
    stores[0].client.delete_object(Bucket=stores[0].bucket, Key=key(package, "model.onnx"))
    with pytest.raises(StoreError, match=r"model\.onnx at .*: not there"):
        check_version(stores[0], "recommender", digest)


def test_versions_are_listed_newest_first_with_where_they_are(
    tmp_path: Path, package: Path, stores: tuple[Store, Store]
) -> None:
    first = publish(package, stores).digest
    second = publish(a_package(tmp_path, b"newer"), [stores[1]]).digest
    found = {version.digest: version for version in versions(stores, "recommender")}
    assert set(found) == {first, second}
    assert (found[first].selectable, found[first].stores) == (True, ("private", "public"))
    assert (found[second].selectable, found[second].stores) == (False, ("public",))
    assert found[first].metrics == {"model": {"ndcg@10": 0.1}}
    overwrite(stores[0], key(package, "manifest.json"), b"{}")
    assert not next(v for v in versions(stores, "recommender") if v.digest == first).selectable
    assert versions(stores, "another") == []


def test_a_store_without_credentials_says_so(stores: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    anonymous = Store(name="private", endpoint=stores[0].endpoint, bucket="fresh")
    with pytest.raises(StoreError, match="no credentials; set AWS_ACCESS_KEY_ID"):
        anonymous.get("models/x")


def test_each_store_may_have_credentials_of_its_own(
    stores: tuple[Store, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials"
    file.write_text("[private]\naws_access_key_id = own\naws_secret_access_key = own-secret\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    for profile, key in (("", "test"), ("private", "own")):
        client = Store(name="s", endpoint=stores[0].endpoint, bucket="b", profile=profile).client
        assert client._request_signer._credentials.access_key == key  # type: ignore[attr-defined]
    absent = Store(name="private", endpoint=stores[0].endpoint, bucket="b", profile="nobody")
    with pytest.raises(StoreError, match="no profile nobody, which credentials_profile"):
        absent.get("models/x")
    with pytest.raises(StoreError, match="no profile nobody, which credentials_profile"):
        list(absent.keys("models/"))


def test_a_wrong_setting_is_not_taken_for_an_absent_store(stores: tuple[Store, Store]) -> None:
    with pytest.raises(StoreError, match="check the settings") as caught:
        Store(name="odd", endpoint=stores[0].endpoint, bucket="Not A Bucket!").get("k")
    assert not isinstance(caught.value, StoreUnreachableError)
