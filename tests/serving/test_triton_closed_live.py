"""A real tritonserver with the flags it is declared with: what is closed is refused, what is asked is answered."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from gateway_stage import triton, until
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from infra.triton import CLOSED, CLOSED_HEADER

pytestmark = pytest.mark.live

HOST = "127.83.9.2"
FLAGS = [f"--{flag}={CLOSED}:{CLOSED_HEADER}=a-uid" for flag in ("http-restricted-api", "grpc-restricted-protocol")]


def test_nobody_loads_maps_memory_traces_or_turns_the_log_off_and_everybody_may_ask_whether_it_is_ready(
    tmp_path: Path,
) -> None:
    (tmp_path / "models").mkdir()
    with triton(tmp_path / "models", HOST, tmp_path, *FLAGS), httpx.Client(base_url=f"http://{HOST}:8000") as http:

        def live() -> bool:
            try:
                return http.get("/v2/health/live").status_code == 200
            except httpx.TransportError:
                return False

        until(live)
        for path in ("systemsharedmemory/status", "cudasharedmemory/status", "trace/setting", "logging"):
            assert http.get(f"/v2/{path}").status_code == 403, path
        for path in ("repository/index", "repository/models/recommender/load"):
            assert http.post(f"/v2/{path}").status_code == 403, path
        assert http.get("/v2/models/recommender/ready").status_code == 400, "asked and answered: it is not there"

        grpc = InferenceServerClient(f"{HOST}:8001")
        assert grpc.is_server_live()
        assert grpc.is_model_ready("recommender") is False
        for ask in (grpc.get_model_repository_index, grpc.get_system_shared_memory_status, grpc.get_log_settings):
            with pytest.raises(InferenceServerException, match="restricted"):
                ask()
        with pytest.raises(InferenceServerException, match="restricted"):
            grpc.unload_model("recommender")
        grpc.close()
