"""What a client may ask and what it gets: the forms of `POST /v1/recommendations`, and of a refusal."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.requests import Request

from serving.inference import HISTORY_LENGTH, Answer, ModelFailureError
from serving.reference import Reference

RECOMMENDATIONS_PATH: Final = "/v1/recommendations"
JSON: Final = "application/json"
BODY_LIMIT_BYTES: Final = 64 * 1024
DISCARD_LIMIT_BYTES: Final = 4 * 1024 * 1024
"""So much of a body that is too large is read and dropped, so that the client sees the answer and not a reset."""
HISTORY_LIMIT: Final = 1000
K_LIMIT: Final = 50
NAMED_ITEMS: Final = 5
"""So many unknown items are named in a refusal."""

Surface = Literal["search", "feed", "advertisement", "questions"]
SURFACES: Final[tuple[str, ...]] = get_args(Surface)
ItemId = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class RecommendationRequest(BaseModel):
    """Whose history, how many items, and where they will be shown."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"history": ["1", "50", "260"], "k": 10, "surface": "feed"}, {"history": []}]},
    )

    history: list[ItemId] = Field(
        max_length=HISTORY_LIMIT,
        description=f"Item ids, oldest first; the last {HISTORY_LENGTH} are used. Empty: what suits somebody unknown.",
    )
    k: int = Field(default=10, ge=1, le=K_LIMIT, description="How many items to answer.")
    surface: Surface = Field(default="feed", description="Where the items will be shown.")


class RecommendedItem(BaseModel):
    """One item of an answer."""

    id: str
    title: str
    score: float


class Recommendations(BaseModel):
    """Ranked items, best first, and who answered with which version."""

    model_config = ConfigDict(
        protected_namespaces=(),
        json_schema_extra={
            "examples": [
                {
                    "items": [{"id": "1196", "title": "Star Wars: Episode V (1980)", "score": 7.25}],
                    "site": "private",
                    "model_version": "1147797409030816545",
                    "model_digest": "sha256:fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210",
                    "degraded": False,
                }
            ]
        },
    )

    items: list[RecommendedItem]
    site: str
    model_version: str = Field(description="Triton's number for the version: the first 60 bits of the digest.")
    model_digest: str = Field(description="sha256: and 64 hexadecimal digits; names the model package byte for byte.")
    degraded: bool = Field(description="Whether this is less than the model's own answer.")


class Fault(BaseModel):
    """What was given, the rule it breaks, what to do about it."""

    value: str
    rule: str
    remedy: str


class ErrorAnswer(BaseModel):
    """Every answer that is not a recommendation has this form."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": {
                        "value": "k = 99",
                        "rule": "Input should be less than or equal to 50",
                        "remedy": "correct the request; its form is in /openapi.json",
                    }
                }
            ]
        }
    )

    error: Fault


@dataclass(eq=False)
class RefusalError(Exception):
    """A request that gets an error answer; the client learns value, rule and remedy."""

    status: int
    value: str
    rule: str
    remedy: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """As an ErrorAnswer."""
        return {"error": {"value": self.value, "rule": self.rule, "remedy": self.remedy}}


async def read_body(request: Request) -> bytes:
    """The body of a request that declares plain JSON. Raises RefusalError 415 or 413."""
    declared = request.headers.get("content-type", "")
    if declared.partition(";")[0].strip().lower() != JSON:
        raise RefusalError(415, f"Content-Type: {declared[:80]}", f"must be {JSON}", f"send Content-Type: {JSON}")
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise RefusalError(415, f"Content-Encoding: {encoding[:80]}", "bodies are not compressed", "send it as it is")
    body = bytearray()
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received <= BODY_LIMIT_BYTES:
            body += chunk
        elif received > DISCARD_LIMIT_BYTES:
            break
    if received > BODY_LIMIT_BYTES:
        raise RefusalError(
            413, f"a body of {received} bytes or more", f"at most {BODY_LIMIT_BYTES} bytes", "shorten the history"
        )
    return bytes(body)


def parse(body: bytes) -> RecommendationRequest:
    """The request in these bytes. Raises RefusalError: 400 for what is no JSON, 422 for what breaks the form."""
    try:
        return RecommendationRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        raise RefusalError(400, _shown(body), first["msg"], "send one JSON object in UTF-8")
    where = ".".join(str(part) for part in first["loc"]) or "body"
    raise RefusalError(
        422, f"{where} = {_shown(first['input'])}", first["msg"], "correct the request; its form is in /openapi.json"
    )


def check_known(history: Sequence[str], references: Collection[Reference]) -> None:
    """Raise a RefusalError that names the first few items no accepted catalogue has.

    During a rollout a history may hold what only one of two versions knows: that one answered a moment ago.
    """
    catalogues = [reference.index_of for reference in references]
    unknown = [item for item in dict.fromkeys(history) if not any(item in catalogue for catalogue in catalogues)]
    if unknown:
        more = f" and {len(unknown) - NAMED_ITEMS} more" if len(unknown) > NAMED_ITEMS else ""
        raise RefusalError(
            422,
            f"history: {_shown(unknown[:NAMED_ITEMS], 400)}{more}",
            f"every item is in the catalogue of {' or '.join(reference.digest for reference in references)}",
            "leave these items out",
        )


def ranked(answer: Answer, reference: Reference, k: int) -> list[dict[str, Any]]:
    """The best k of an answer to one history, with titles.

    Items masked with minus infinity are no answer, so a small catalogue may give fewer than k. Raises ModelFailureError
    for anything else that is no score or no item.
    """
    best: list[dict[str, Any]] = []
    for index, score in zip(answer.items[0, :k].tolist(), answer.scores[0, :k].tolist(), strict=True):
        if score == float("-inf"):
            break
        if not abs(score) < float("inf") or not 0 < index <= len(reference.ids):
            raise ModelFailureError(
                f"item {index} with score {score}, where items are 1 to {len(reference.ids)} and scores finite;"
                f" do not serve {answer.digest}: roll back"
            )
        item = index - 1
        best.append({"id": reference.ids[item], "title": reference.titles[item], "score": round(score, 6)})
    return best


def _shown(value: object, length: int = 80) -> str:
    """A value cut to a length that is safe to send back."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else json.dumps(value, default=repr)
    return text if len(text) <= length else text[:length] + "..."
