"""Runs the model.onnx that lies beside it, one answer per request, in Triton's Python backend.

Triton hands over several requests at once (dynamic batching): they are joined, run as one batch and split again, so a
full batch costs one run. Input `history` INT64 [n, 50]; outputs `items` INT64 [n, 50] and `scores` FLOAT32 [n, 50].

Tensors cross the border as DLPack, never through `as_numpy()` or `Tensor(name, array)`: those read numpy 1's memory
layout, and under numpy 2 they do not fail but repeat the first number and answer no bytes
(https://github.com/triton-inference-server/server/issues/8404).
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime  # type: ignore[import-untyped]  # ships no types
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # exists in Triton's stub only

INPUT: Final = "history"
OUTPUTS: Final = ("items", "scores")

USED: Final = b"used_dltensor"
"""What DLPack's protocol calls a capsule somebody has taken over."""
_set_name = ctypes.pythonapi.PyCapsule_SetName
_set_name.argtypes = [ctypes.py_object, ctypes.c_char_p]


class TritonPythonModel:
    """One onnxruntime session on one thread."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model of this version; a bad file fails the load, so the server never turns ready with it."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer every request of the batch, in order."""
        histories = [np.from_dlpack(pb_utils.get_input_tensor_by_name(request, INPUT)) for request in requests]
        outputs = self._session.run(OUTPUTS, {INPUT: np.concatenate(histories)})
        ends = np.cumsum([len(history) for history in histories])[:-1]
        shares = zip(*(np.split(output, ends) for output in outputs), strict=True)
        return [
            pb_utils.InferenceResponse([_tensor(name, part) for name, part in zip(OUTPUTS, share, strict=True)])
            for share in shares
        ]


def _tensor(name: str, array: npt.NDArray[Any]) -> Any:
    """The array as a tensor of the server, without a copy.

    The server marks the capsule it took as `used_dlpack`, a name numpy does not know, which costs a traceback in the
    log for every answer; so it gets the protocol's name.
    """
    capsule = array.__dlpack__()
    tensor = pb_utils.Tensor.from_dlpack(name, capsule)
    _set_name(capsule, USED)
    return tensor
