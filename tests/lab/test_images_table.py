"""Which command an image stands for, and which references lead to none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab.kubernetes import images


@pytest.mark.parametrize("repository", sorted(images.TABLE))
def test_every_image_is_found_by_tag_by_digest_and_by_both(repository: str) -> None:
    image = images.TABLE[repository]
    for reference in (repository, f"{repository}:24.10", image.reference, f"{repository}:24.10@{image.digest}"):
        assert images.pull(reference) is image


def test_a_digest_rests_on_the_description_alone_and_so_is_the_same_on_every_machine() -> None:
    assert images.TABLE[images.SERVING].digest == (
        "sha256:86d9faddac4db1f71b3f4803315c83c30e0adb44c398edaff5962538ec195010"
    )


@pytest.mark.parametrize(
    ("reference", "rule"),
    [
        ("docker.io/library/nginx:1", "does not exist"),
        (f"{images.SERVING}@sha256:{'0' * 64}", "has no manifest sha256:0000"),
        (f"{images.SERVING}@sha256:0", "invalid image reference"),
        ("", "invalid image reference"),
    ],
    ids=["unknown repository", "another digest", "half a digest", "nothing"],
)
def test_a_reference_that_leads_nowhere_says_why(reference: str, rule: str) -> None:
    with pytest.raises(images.PullError, match=rule):
        images.pull(reference)


@pytest.mark.parametrize(
    ("repository", "command", "args", "argv"),
    [
        (
            images.SERVING,
            ["python", "-m", "serving.fetch"],
            ["--into", "x"],
            [sys.executable, "-m", "serving.fetch", "--into", "x"],
        ),
        (images.SERVING, [], ["/usr/local/bin/python3", "-V"], [sys.executable, "-V"]),
        (images.SERVING, [], [], [sys.executable]),
        (images.SERVING, ["/bin/sh", "-c", "true"], [], ["/usr/bin/sh", "-c", "true"]),
    ],
    ids=["command and args", "args alone", "the image's default", "a utility by its path"],
)
def test_command_and_args_become_an_argv_of_this_machine(
    tmp_path: Path, repository: str, command: list[str], args: list[str], argv: list[str]
) -> None:
    found = images.TABLE[repository].command(tmp_path, command, args)
    assert [str(Path(found.argv[0]).name), *found.argv[1:]] == [Path(argv[0]).name, *argv[1:]]
    assert os.access(found.argv[0], os.X_OK)


@pytest.mark.parametrize("word", ["tritonserver", "curl", "/opt/python"])
def test_a_command_the_image_does_not_hold_is_refused(tmp_path: Path, word: str) -> None:
    with pytest.raises(images.CommandError, match="executable file not found"):
        images.TABLE[images.SERVING].command(tmp_path, [word], [])


def test_an_entrypoint_stays_in_front_of_args_and_gives_way_to_a_command(tmp_path: Path) -> None:
    plugin = images.TABLE[images.DEVICE_PLUGIN]
    assert "sleep infinity" in " ".join(plugin.command(tmp_path, [], ["--verbose"]).argv)
    assert plugin.command(tmp_path, ["sleep", "1"], []).argv[1:] == ("1",)


def test_triton_runs_with_a_backend_folder_of_the_lab_that_holds_this_interpreters_stub(tmp_path: Path) -> None:
    found = images.TABLE[images.TRITON].command(tmp_path, ["tritonserver"], ["--http-port=1"])
    folder = Path(found.argv[1].removeprefix("--backend-directory="))
    assert folder.is_relative_to(tmp_path)
    assert found.argv[2:] == ("--http-port=1",)
    assert os.access(folder / "python" / "triton_python_backend_stub", os.X_OK)
    assert images.triton_backends(tmp_path) == folder, "made once"
    assert [each.name for each in tmp_path.iterdir()] == [folder.name], "no scratch folder is left"
    assert "nvidia_pytriton.libs" in found.environment["LD_LIBRARY_PATH"]


def test_the_module_prints_references_a_manifest_can_name() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "lab.kubernetes.images"], capture_output=True, text=True, timeout=30, check=True
    )
    assert printed.stdout.split() == [images.TABLE[repository].reference for repository in sorted(images.TABLE)]
