"""The trained model as one ONNX file with a dynamic batch, proven to rank as the trained one does."""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from serving import ParityError
from serving.data import ANSWER_LENGTH, HISTORY_LENGTH, Case
from serving.evaluate import padded

OPSET: Final = 18
PARITY_TOLERANCE: Final = 1e-3
GOLDEN_K: Final = 10
# The same file on another processor differs in the last bits; a GPU may multiply with 10-bit mantissas.
GOLDEN_TOLERANCE: Final = {"cpu": 1e-4, "gpu": 2e-2}


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far the exported model is from the trained one on real histories."""

    cases: int
    largest_difference: float


class OnnxModel:
    """An ONNX file in ONNX Runtime, one thread on the CPU, as the serving pod runs it."""

    def __init__(self, data: bytes) -> None:
        import onnxruntime  # type: ignore[import-untyped]  # ships no types; imported only where a model runs, so that packages are listed without it

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session: Any = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def answer(self, histories: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Histories [batch, 50] to items and scores, both [batch, 50], best first."""
        items, scores = self.session.run(["items", "scores"], {"history": histories})
        return items, scores

    def answers(self, histories: NDArray[np.int64], batch: int = 64) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The same for many histories, in parts."""
        parts = [self.answer(histories[start : start + batch]) for start in range(0, len(histories), batch)]
        return np.concatenate([items for items, _ in parts]), np.concatenate([scores for _, scores in parts])

    def milliseconds(self, histories: NDArray[np.int64]) -> dict[str, float]:
        """Median and 99th percentile of single questions, in milliseconds, on this machine as busy as it is."""
        self.answer(histories[:1])
        taken = []
        for row in range(len(histories)):
            started = time.perf_counter()
            self.answer(histories[row : row + 1])
            taken.append((time.perf_counter() - started) * 1000)
        return {"p50": float(np.percentile(taken, 50)), "p99": float(np.percentile(taken, 99))}


def to_onnx(model: Any) -> bytes:
    """The model as ONNX: history INT64 [batch, 50] to items INT64 and scores FLOAT32 [batch, 50].

    The file holds nothing of the machine it was made on: names of source files and traces are taken out, so that the
    same weights give the same bytes.
    """
    import torch

    example = torch.zeros(3, HISTORY_LENGTH, dtype=torch.int64)
    with warnings.catch_warnings(), _quiet(logging.getLogger("torch.onnx")):
        # The exporter warns about its own internals; what counts is checked by `check_parity`.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model.eval(),
            (example,),
            input_names=["history"],
            output_names=["items", "scores"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            dynamo=True,
            optimize=True,
            verbose=False,
        )
    if program is None:
        raise ParityError("torch.onnx.export gave no program; the model cannot be exported as it is")
    proto = program.model_proto
    proto.doc_string = ""
    del proto.metadata_props[:]
    for part in (proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    for function in proto.functions:
        for node in function.node:
            node.doc_string = ""
            del node.metadata_props[:]
    return bytes(proto.SerializeToString(deterministic=True))


@contextlib.contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def check_parity(model: Any, exported: OnnxModel, cases: Sequence[Case]) -> Parity:
    """The difference between torch and ONNX Runtime. Raises ParityError unless both rank alike.

    Batches of 1 and of many are asked, so that a batch fixed by mistake shows.
    """
    import torch

    histories = np.concatenate([np.zeros((1, HISTORY_LENGTH), np.int64), padded(cases)])
    with torch.inference_mode():
        parts = [model(torch.from_numpy(histories[start : start + 64])) for start in range(0, len(histories), 64)]
    wanted = np.concatenate([items.numpy() for items, _ in parts])
    wanted_scores = np.concatenate([scores.numpy() for _, scores in parts])
    items, scores = exported.answers(histories)
    single_items, single_scores = exported.answers(histories[:8], batch=1)
    _compare(single_items, single_scores, wanted[:8], wanted_scores[:8], "batch of 1")
    largest = _compare(items, scores, wanted, wanted_scores, "batch of 64")
    if items.dtype != np.int64 or scores.dtype != np.float32 or items.shape != (len(histories), ANSWER_LENGTH):
        raise ParityError(f"outputs {items.dtype} {items.shape} and {scores.dtype}: must be int64 [b, 50] and float32")
    return Parity(cases=len(histories), largest_difference=largest)


def _compare(
    items: NDArray[np.int64],
    scores: NDArray[np.float32],
    wanted: NDArray[np.int64],
    wanted_scores: NDArray[np.float32],
    what: str,
) -> float:
    """The largest difference of scores at equal places. Raises ParityError; a swap of near ties is no difference."""
    if not np.isfinite(scores).all():
        raise ParityError(f"{what}: the exported model answers scores that are not finite; train again")
    difference = np.abs(scores - wanted_scores)
    largest = float(difference.max())
    if largest > PARITY_TOLERANCE:
        raise ParityError(
            f"{what}: scores differ by {largest:.2e}, at most {PARITY_TOLERANCE:.0e} is allowed; "
            "the exported graph is not the trained model"
        )
    for row, place in np.argwhere(items[:, :GOLDEN_K] != wanted[:, :GOLDEN_K]):
        other = np.flatnonzero(wanted[row] == items[row, place])
        if len(other) == 0 and place < ANSWER_LENGTH - 1:
            gap = float(abs(scores[row, place] - wanted_scores[row, -1]))
        else:
            gap = float(abs(wanted_scores[row, other[0]] - wanted_scores[row, place]))
        if gap > PARITY_TOLERANCE:
            raise ParityError(
                f"{what}: question {row} has item {items[row, place]} at place {place + 1} where the trained model has "
                f"{wanted[row, place]}; the exported graph is not the trained model"
            )
    return largest


def golden(exported: OnnxModel, cases: Sequence[Case]) -> dict[str, Any]:
    """A request with a known answer: an empty, a one-item, a middling and a full history.

    Of the histories there are, those are taken whose first places lie furthest apart, so that rounding on another
    processor does not swap two of them and turn a good site red.
    """
    known = padded(cases)
    full = known[(known > 0).all(1)]
    middling = known[-64:].copy()
    middling[:, : HISTORY_LENGTH // 2] = 0
    single = np.zeros((min(64, len(known)), HISTORY_LENGTH), np.int64)
    single[:, -1] = known[: len(single), -1]
    chosen = [np.zeros(HISTORY_LENGTH, np.int64)]
    for candidates in (single, middling, full[:64]):
        if len(candidates) > 0:
            _, scores = exported.answers(candidates)
            gaps = -np.diff(scores[:, : GOLDEN_K + 1], axis=1)
            chosen.append(candidates[int(gaps.min(1).argmax())])
    request = np.stack(chosen)
    items, scores = exported.answer(request)
    return {
        "request": {"history": request.tolist()},
        "answer": {"items": items.tolist(), "scores": [[float(score) for score in row] for row in scores]},
        "k": GOLDEN_K,
        "tolerance": dict(GOLDEN_TOLERANCE),
    }
