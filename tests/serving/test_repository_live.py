from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gateway_stage import TOKEN, environment, gateway, get, health, triton, until
from model_stage import behaviour, split, trained

from serving import catalogue, evaluate, export, repository
from serving.manifest import version_number

pytestmark = pytest.mark.live
ADDRESS = "127.83.90.1"


def test_a_trained_package_is_served_by_triton_and_its_golden_answer_turns_the_gateway_green(tmp_path: Path) -> None:
    from tritonclient import grpc  # type: ignore[import-untyped]  # ships no types

    onnx = export.to_onnx(trained().model)
    exported = export.OnnxModel(onnx)
    package = repository.build(
        tmp_path / "models",
        onnx=onnx,
        catalogue=catalogue.to_bytes(behaviour().items),
        golden=export.golden(exported, split().test),
        catalogue_size=len(behaviour().items),
        metrics={},
        training={},
    )
    digest = f"sha256:{package.name}"
    served = repository.lay_out(package, tmp_path / "pod", "repository")
    repository.lay_out(package, tmp_path / "pod", "reference")
    with triton(served, ADDRESS, tmp_path):
        until(lambda: getattr(get(f"http://{ADDRESS}:8000/v2/models/recommender/ready"), "status_code", 0) == 200, 30)
        with gateway(environment(tmp_path / "pod", digest, ADDRESS, f"{ADDRESS}:8001"), tmp_path):
            until(lambda: health(ADDRESS).get("code") == 200, 30)
            assert health(ADDRESS)["status"] == TOKEN
        histories = evaluate.padded(split().test[:8])
        client = grpc.InferenceServerClient(f"{ADDRESS}:8001")
        asked = grpc.InferInput("history", list(histories.shape), "INT64")
        asked.set_data_from_numpy(histories)
        answer: Any = client.infer("recommender", [asked], client_timeout=30)
        client.close()
    items, scores = exported.answer(histories)
    assert np.array_equal(answer.as_numpy("items"), items)
    assert np.allclose(answer.as_numpy("scores"), scores, atol=1e-5)
    assert answer.get_response().model_version == str(version_number(digest))
    assert json.loads((tmp_path / "pod" / "reference" / "golden.json").read_bytes())["answer"]["items"]
