"""The REST service in front of a site's Triton: `python -m serving.gateway`, configured by its environment.

A request it cannot understand gets a 4xx that says why, one too many 429 with Retry-After; a Triton that is away gives
503 with Retry-After, one that is too slow 504. An answer of a version that is not accepted is never served.

Three paths say how it is, for three askers: /livez the kubelet that would restart it, /readyz the kubelet that puts it
behind its Service, /healthz the DNS service that leads users to the site.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from serving import PackageError
from serving.admission import RETRY_AFTER, Admission, Door, busy
from serving.drain_mark import DrainMark
from serving.gateway_settings import Settings, SettingsError
from serving.health import GoldenHealth
from serving.inference import (
    BusyError,
    Inference,
    InferenceError,
    InferenceTimeoutError,
    Lane,
    TritonInference,
    WrongAnswerError,
)
from serving.manifest import version_number
from serving.own_store import signer
from serving.recommendation import (
    BODY_LIMIT_BYTES,
    JSON,
    RECOMMENDATIONS_PATH,
    ErrorAnswer,
    RecommendationRequest,
    Recommendations,
    RefusalError,
    check_known,
    parse,
    ranked,
    read_body,
)
from serving.reference import Reference, load_all
from serving.server import Server
from serving.telemetry import NO_SURFACE, Telemetry
from serving.tls import Certificate

DESCRIPTION: Final = {
    400: "The body is not JSON.",
    408: "The body did not arrive in time.",
    413: f"The body is larger than {BODY_LIMIT_BYTES} bytes.",
    415: "The body is not declared as plain application/json.",
    422: "A field is unknown, missing or out of its range, or an item is not in the catalogue.",
    429: "As many requests as this gateway takes are in flight; Retry-After says when to ask again.",
    503: "Triton is away or answers wrongly; Retry-After says when to ask again.",
    504: "Triton did not answer in time.",
}

log = logging.getLogger("serving.gateway")


class Gateway:
    """Answers requests of one site out of one Triton."""

    def __init__(self, settings: Settings, references: Mapping[str, Reference], inference: Inference) -> None:
        self.settings = settings
        self.references = references
        self.inference = inference
        self.health = GoldenHealth(
            inference,
            references,
            backend=settings.backend,
            interval_seconds=settings.golden_interval_seconds,
            deadline_seconds=min(settings.golden_interval_seconds, settings.request_timeout_seconds),
            hold_down_seconds=settings.hold_down_seconds,
            count_wrong=lambda: self.telemetry.count_wrong(),
        )
        credentials = signer(settings.drain_region, os.environ)
        sign = credentials.headers if credentials else None
        self.drain_mark = DrainMark(settings.drain_url, settings.drain_token, sign=sign)
        self.telemetry = Telemetry(
            settings.site,
            lambda: self.health.state,
            connections=lambda: self.admission.callers.count,
            in_flight=lambda: self.admission.in_flight,
            concurrency_limit=settings.concurrency_limit,
            site_draining=lambda: self.drain_mark.present,
        )
        self.admission = Admission(
            settings.site,
            limit=settings.concurrency_limit,
            recent_seconds=settings.golden_interval_seconds,
            count_shed=self.telemetry.count_shed,
            count_unread=self.telemetry.count_unread,
            closing=lambda: self.leads_away,
        )
        self.draining = False

    @property
    def leads_away(self) -> bool:
        """Whether clients on open connections should come again: DNS would lead them elsewhere, or soon will.

        During a hold-down too: it is ready then, but DNS leads elsewhere as long as another site is well.
        """
        return self.draining or self.drain_mark.present or not self.health.state.healthy

    def drain(self) -> None:
        """Turn health red and ask clients to close their connections; go on answering."""
        self.draining = True
        self.health.drain()

    async def recommend(self, request: Request) -> Response:
        """The answer to one request; whatever happens, it is counted."""
        start = time.perf_counter()
        surface = NO_SURFACE
        try:
            async with asyncio.timeout(self.settings.request_timeout_seconds):
                body = await read_body(request)
            question = parse(body)
            surface = question.surface
            response = await self._answer(question, self.settings.request_timeout_seconds)
        except TimeoutError:
            response = self.refuse(RefusalError(408, "body", "arrives within the request timeout", "send it faster"))
        except ClientDisconnect:
            response = Response(status_code=499)  # nobody is there to read it; it is counted under nginx's code
        except RefusalError as refusal:
            response = self.refuse(refusal)
        except InferenceError as error:
            response = self._failed(error)
        except Exception:
            log.exception("a fault of the gateway itself")
            response = self.refuse(RefusalError(500, "the gateway", "a fault of its own", "see its log"))
        self.telemetry.observe(surface, response.status_code, time.perf_counter() - start)
        return response

    async def _answer(self, question: RecommendationRequest, deadline_seconds: float) -> Response:
        check_known(question.history, self.references.values())
        answer = await self.inference.ask(
            lambda digest: self.references[digest].encode(question.history),
            deadline_seconds=deadline_seconds,
            lane=Lane.USERS,
        )
        document = {
            "items": ranked(answer, self.references[answer.digest], question.k),
            "site": self.settings.site,
            "model_version": str(version_number(answer.digest)),
            "model_digest": answer.digest,
            "degraded": False,
        }
        return self.respond(200, document, {"X-Tandem-Digest": answer.digest})

    def _failed(self, error: InferenceError) -> Response:
        if isinstance(error, InferenceTimeoutError):
            rule = f"answers within {self.settings.request_timeout_seconds:g} s"
            return self.refuse(RefusalError(504, "the model server", rule, "ask again"))
        if isinstance(error, BusyError):
            self.admission.note_shed()
            return self.refuse(busy(f"the model server: {error}"))
        if isinstance(error, WrongAnswerError):
            self.health.accuse(str(error))
            log.error("wrong answer, not served: %s", error)
        return self.refuse(
            RefusalError(503, "the model server", f"answers: {error}", "ask again after Retry-After", RETRY_AFTER)
        )

    def refuse(self, refusal: RefusalError) -> Response:
        """An error answer."""
        return self.respond(refusal.status, refusal.body(), refusal.headers)

    def respond(self, status: int, content: Any, headers: Mapping[str, str] | None = None) -> Response:
        """An answer in JSON (bytes as they are) that names the site."""
        content = content if isinstance(content, bytes) else to_json(content)
        named = {"X-Tandem-Site": self.settings.site, **(headers or {})}
        if status in {408, 413}:
            named["Connection"] = "close"
        return Response(content, status, named, media_type=JSON)


def application(
    settings: Settings,
    references: Mapping[str, Reference],
    inference: Inference,
    certificate: Certificate | None = None,
) -> FastAPI:
    """The gateway as an ASGI application; its golden questions start and end with it."""
    gateway = Gateway(settings, references, inference)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watches = [
            asyncio.create_task(gateway.health.run(), name="golden health"),
            asyncio.create_task(gateway.drain_mark.run(), name="drain mark"),
        ]
        if certificate is not None:
            watches.append(asyncio.create_task(certificate.run(), name="certificate"))
        try:
            yield
        finally:
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
            await inference.close()

    app = FastAPI(
        title="Tandem recommendations",
        version="1",
        description="Next items for a history of items, with the site, the version and the digest that answered.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.gateway = gateway
    app.add_middleware(Door, admission=gateway.admission)
    refusals: dict[int | str, dict[str, Any]] = {
        code: {"model": ErrorAnswer, "description": text} for code, text in DESCRIPTION.items()
    }
    schema = RecommendationRequest.model_json_schema()
    body = {"required": True, "content": {JSON: {"schema": schema, "examples": _examples(schema["examples"])}}}

    @app.post(
        RECOMMENDATIONS_PATH,
        response_model=Recommendations,
        responses=refusals,
        openapi_extra={"requestBody": body},
        summary="Items to recommend after a history.",
    )
    async def recommend(request: Request) -> Response:
        return await gateway.recommend(request)

    @app.get(
        "/healthz", summary="Last golden result and its age.", responses={503: {"description": "Ill: see reason."}}
    )
    async def healthz() -> Response:
        state = gateway.health.state
        content = state.body(settings.health_token, settings.site, gateway.admission.shed.value)
        return gateway.respond(200 if state.healthy else 503, content, {"Cache-Control": "no-store"})

    @app.get(
        "/readyz",
        summary="The last golden answer is right and fresh, held down or not.",
        responses={503: {"description": "Not ready: see reason."}},
    )
    async def readyz() -> Response:
        state = gateway.health.state
        content = {"status": "ready" if state.ready else "not ready", "reason": state.reason}
        return gateway.respond(200 if state.ready else 503, content, {"Cache-Control": "no-store"})

    @app.get("/livez", summary="The process answers.")
    async def livez() -> Response:
        return gateway.respond(200, {"status": "alive"})

    @app.get("/metrics", summary="Prometheus metrics.")
    async def metrics() -> Response:
        return Response(gateway.telemetry.exposition(), media_type=gateway.telemetry.content_type)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        headers = getattr(error, "headers", None)
        return gateway.refuse(
            RefusalError(
                status,
                f"{request.method} {request.url.path[:80]}",
                str(getattr(error, "detail", "refused")),
                "the paths are in /openapi.json",
                headers or {},
            )
        )

    return app


def _examples(values: list[Any]) -> dict[str, Any]:
    return {name: {"value": value} for name, value in zip(("history", "cold start"), values, strict=True)}


def main() -> int:
    """Serve until told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = Settings.read(os.environ)
        references = load_all(Path(settings.model_dir), settings.accepted_digests)
        certificate = Certificate(settings.tls_certificate, settings.tls_key) if settings.tls_certificate else None
    except (SettingsError, PackageError, OSError) as error:
        log.error("%s", error)  # noqa: TRY400  the message is the whole story
        return 2
    inference = TritonInference(settings.triton_url, settings.model_name, settings.accepted_digests)
    Server(application(settings, references, inference, certificate), certificate).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
