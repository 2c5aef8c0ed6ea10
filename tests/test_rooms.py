"""Which room may import which; read from the code, nothing is run."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("bench", "drills", "infra", "lab", "serving", "signals", "stacks", "trials")
JOINING = ("gates", "rehearsal", "release", "tandem")
"""Modules that join the rooms; no room names them."""
MAY_IMPORT = {
    "bench": ("bench",),
    "drills": ("drills", "stacks.contract", "serving.client", "signals"),
    "infra": ("infra",),
    "lab": ("lab",),
    "serving": ("serving",),
    "signals": ("signals", "stacks.contract"),
    "stacks": ("stacks", "infra", "signals"),
    "trials": ("trials", "drills", "signals", "stacks.contract"),
}
"""The arrows of the house: a room, and what of ours it may name."""

FOREIGN = {
    "bench": ("pulumi", "torch", "moto", "boto3", "kubernetes"),
    "drills": ("pulumi", "torch", "moto"),
    "infra": ("torch", "moto", "boto3", "kubernetes"),
    "lab": ("torch", "tritonclient", "pulumi_aws", "pulumi_kubernetes"),
    "serving": ("pulumi", "pulumi_aws", "pulumi_kubernetes", "moto", "kubernetes"),
    "signals": ("pulumi", "pulumi_aws", "pulumi_kubernetes", "torch", "moto", "kubernetes"),
    "stacks": ("torch", "moto", "boto3", "cryptography"),
    "trials": ("pulumi", "torch", "moto", "kubernetes"),
}
"""Packages a room has no business with."""

TRAINING = ("model", "train", "evaluate", "export")
"""The only modules of serving that may import torch."""


def imports_of(path: Path) -> set[str]:
    """Every module a file imports, with `from a import b` as both a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} uses a relative import"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def violations(room: str, imported: set[str]) -> list[str]:
    ours = [module for module in imported if module.split(".")[0] in {*ROOMS, *JOINING}]
    allowed = MAY_IMPORT[room]
    strangers = [
        module
        for module in ours
        if not any(within(module, package) for package in allowed)
        and not any(within(package, module) for package in allowed if "." in package)
    ]
    foreign = [module for module in imported if any(within(module, package) for package in FOREIGN[room])]
    return sorted(strangers + foreign)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_its_arrows_allow(room: str) -> None:
    wrong = {
        str(path.relative_to(ROOT)): found
        for path in sorted((ROOT / room).rglob("*.py"))
        if (found := violations(room, imports_of(path)))
    }
    assert not wrong, f"the arrows of docs/architecture.md forbid: {wrong}"


@pytest.mark.parametrize(
    ("room", "imported"),
    [
        ("drills", {"lab.topology"}),
        ("serving", {"pulumi"}),
        ("infra", {"stacks.contract"}),
        ("drills", {"stacks.engine"}),
        ("signals", {"stacks.engine"}),
        ("signals", {"drills.guard"}),
        ("stacks", {"boto3"}),
        ("bench", {"stacks.preview"}),
    ],
)
def test_a_forbidden_import_is_seen(room: str, imported: set[str]) -> None:
    assert violations(room, imported) == sorted(imported)


def test_only_training_modules_import_torch() -> None:
    importers = {
        path.stem for path in (ROOT / "serving").glob("*.py") if any(within(m, "torch") for m in imports_of(path))
    }
    assert importers <= set(TRAINING), "torch stays out of the serving path"


def test_only_the_settings_read_pulumi_config() -> None:
    readers = [
        str(path.relative_to(ROOT))
        for room in ("infra", "stacks")
        for path in (ROOT / room).rglob("*.py")
        if "pulumi.Config(" in path.read_text(encoding="utf-8")
    ]
    assert readers == ["infra/settings.py"]


def test_a_pod_of_the_serving_image_loads_no_torch_no_moto_and_no_pulumi() -> None:
    code = (
        "import sys, serving.gateway, serving.fetch\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'moto', 'pulumi', 'onnx', 'pandas'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
