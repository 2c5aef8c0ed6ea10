from __future__ import annotations

import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer
from store_stage import a_package, a_store, absent_endpoint, moto_server, use_credentials

from serving import fetch, manifest
from serving.store import Store, object_key, publish

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto_server("127.83.0.3") as url:
        yield url


@pytest.fixture
def store(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    use_credentials(monkeypatch)
    return a_store(endpoint, "private", f"models-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def package(tmp_path: Path, store: Store) -> Path:
    made = a_package(tmp_path / "models")
    assert publish(made, [store]).selectable
    return made


def arguments(store: Store, package: Path, into: Path, part: str = "repository", seconds: str = "5") -> list[str]:
    return [
        *("--endpoint", store.endpoint, "--region", store.region, "--bucket", store.bucket),
        *("--digest", f"sha256:{package.name}", "--model", "recommender", "--part", part),
        *("--into", str(into), "--deadline-seconds", seconds),
    ]


def left_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.exists() else []


def test_both_parts_are_laid_out_verified(
    store: Store, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pod = tmp_path / "pod"
    assert fetch.main(arguments(store, package, pod, "repository")) == 0
    assert fetch.main(arguments(store, package, pod, "reference")) == 0
    version = str(manifest.version_number(f"sha256:{package.name}"))
    model = pod / "repository" / "recommender" / version / "model.onnx"
    assert model.read_bytes() == (package / "model.onnx").read_bytes()
    assert manifest.read(pod / "reference", f"sha256:{package.name}").model == "recommender"
    assert sorted(left_in(pod)) == ["reference", "repository"]
    assert "verified and laid out" in capsys.readouterr().out


def test_fetching_again_into_the_same_volume_works(store: Store, package: Path, tmp_path: Path) -> None:
    assert [fetch.main(arguments(store, package, tmp_path / "pod")) for _ in range(2)] == [0, 0]


def two_versions(store: Store, package: Path, tmp_path: Path) -> list[str]:
    second = a_package(tmp_path / "models", b"other" * 1000)
    assert publish(second, [store]).selectable
    return [f"sha256:{package.name}", f"sha256:{second.name}"]


def test_several_digests_of_the_reference_lie_in_a_folder_each(
    store: Store, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digests = two_versions(store, package, tmp_path)
    pod = tmp_path / "pod"
    wanted = [*arguments(store, package, pod, "reference"), "--digest", digests[1]]
    assert [fetch.main(wanted), fetch.main(wanted)] == [0, 0]
    assert sorted(left_in(pod / "reference")) == sorted(manifest.hex_of(digest) for digest in digests)
    for digest in digests:
        folder = pod / "reference" / manifest.hex_of(digest)
        assert sorted(left_in(folder)) == ["catalogue.json", "golden.json", "manifest.json"]
        assert manifest.read(folder, digest).model == "recommender"
    assert left_in(pod) == ["reference"]
    assert ", ".join(digests) in capsys.readouterr().out


@pytest.mark.parametrize("bad", [0, 1], ids=["first", "second"])
def test_one_bad_version_of_several_leaves_nothing(
    store: Store, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], bad: int
) -> None:
    digests = two_versions(store, package, tmp_path)
    key = object_key("recommender", digests[bad], "golden.json")
    store.client.put_object(Bucket=store.bucket, Key=key, Body=b"{}")
    wanted = [*arguments(store, package, tmp_path / "pod", "reference"), "--digest", digests[1]]
    assert fetch.main(wanted) == fetch.REFUSED
    assert key in capsys.readouterr().err
    assert left_in(tmp_path / "pod") == []


def test_a_repository_holds_one_version_and_a_digest_is_given_once(
    store: Store, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = f"sha256:{package.name}"
    for part, more in (("repository", "sha256:" + "ab" * 32), ("reference", first)):
        with pytest.raises(SystemExit) as caught:
            fetch.main([*arguments(store, package, tmp_path / "pod", part), "--digest", more])
        assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "--part repository: holds one version" in said
    assert "one digest is given twice" in said


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        pytest.param("model.onnx", b"X" * 4000, "SHA-256", id="corrupt"),
        pytest.param("model.onnx", b"onnx" * 900, "3600 bytes, but the manifest says 4000", id="truncated"),
        pytest.param("configs/gpu.pbtxt", None, "not there", id="missing"),
        pytest.param("manifest.json", b"{}", "its bytes have digest", id="manifest-overwritten"),
        pytest.param("manifest.json", None, "not there", id="never-published"),
    ],
)
def test_a_bad_object_is_named_and_nothing_is_left(
    store: Store,
    package: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    data: bytes | None,
    message: str,
) -> None:
    key = object_key("recommender", f"sha256:{package.name}", name)
    if data is None:
        store.client.delete_object(Bucket=store.bucket, Key=key)
    else:
        store.client.put_object(Bucket=store.bucket, Key=key, Body=data)
    assert fetch.main(arguments(store, package, tmp_path / "pod")) == fetch.REFUSED
    said = capsys.readouterr().err
    assert f"s3://{store.bucket}/{key}" in said
    assert message in said
    assert left_in(tmp_path / "pod") == []


def test_another_models_version_is_not_fetched(
    store: Store, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = [*arguments(store, package, tmp_path / "pod"), "--model", "other"]
    data = (package / "manifest.json").read_bytes()
    key = object_key("other", f"sha256:{package.name}", "manifest.json")
    store.client.put_object(Bucket=store.bucket, Key=key, Body=data)
    assert fetch.main(wanted) == fetch.REFUSED
    assert "is of model 'recommender', not 'other'" in capsys.readouterr().err


def test_a_store_that_stays_away_is_given_up_at_the_deadline(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    away = Store(name="store", endpoint=absent_endpoint(), bucket="models")
    assert fetch.main(arguments(away, package, tmp_path / "pod", seconds="10")) == fetch.UNREACHABLE
    said = capsys.readouterr().err
    assert "asking again" in said
    assert "fetch failed: store: s3://models/models/recommender/" in said
    assert left_in(tmp_path / "pod") == []


def test_a_store_that_comes_back_in_time_is_used(
    store: Store, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = absent_endpoint()
    host, port = address.removeprefix("http://").split(":")
    late = ThreadedMotoServer(ip_address=host, port=int(port), verbose=False)
    results: list[int] = []
    # moto's threads share their buckets, so the late server holds what the other was given.
    away = Store(name="store", endpoint=address, bucket=store.bucket)
    asking = threading.Thread(
        target=lambda: results.append(fetch.main(arguments(away, package, tmp_path / "pod", seconds="60")))
    )
    asking.start()
    late.start()
    try:
        asking.join(timeout=60)
    finally:
        late.stop()
    assert results == [0]


@pytest.mark.parametrize(
    "change", [("--digest", "latest"), ("--part", "everything")], ids=["digest-by-tag", "unknown-part"]
)
def test_wrong_arguments_are_status_2(store: Store, package: Path, tmp_path: Path, change: tuple[str, str]) -> None:
    with pytest.raises(SystemExit) as caught:
        fetch.main([*arguments(store, package, tmp_path / "pod"), *change])
    assert caught.value.code == 2


def test_it_runs_as_a_process_with_the_status_a_kubelet_sees(store: Store, package: Path, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "serving.fetch", *arguments(store, package, tmp_path / "pod")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert left_in(tmp_path / "pod") == ["repository"]


@pytest.mark.parametrize("module", ["manifest", "repository", "store", "fetch", "cli"])
def test_what_runs_in_a_pod_imports_neither_torch_nor_numpy_nor_pandas(module: str) -> None:
    code = (
        f"import sys, serving.{module}; "
        "print(sorted({'torch', 'pandas', 'numpy', 'onnxruntime', 'moto', 'pulumi'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "[]"
