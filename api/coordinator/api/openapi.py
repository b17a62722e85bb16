"""The OpenAPI document: schemas from the structs that decode and encode, responses from the table of problems.

FastAPI describes its own routes; the hot ones, which it does not know, are described here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, TypeAlias

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from coordinator.api import examples, problems, schemas
from coordinator.core.results import Result
from coordinator.core.settings import Settings

Document: TypeAlias = dict[str, Any]
Ok: TypeAlias = Mapping[int, tuple[type[msgspec.Struct] | None, str, Any]]
"""Status → struct of the body (None: no body), what it means, an example."""
_REF: Final = "#/components/schemas/{name}"
_STRUCTS: Final = (
    schemas.InferenceRequest,
    schemas.Accepted,
    schemas.ProblemDocument,
    schemas.BatchProblem,
    schemas.BatchAnswer,
    Result,
    schemas.RegisterRequest,
    schemas.Registered,
    schemas.HeartbeatRequest,
    schemas.WorkerState,
    schemas.Workers,
    schemas.Models,
    schemas.DeadLetters,
    schemas.RetryAccepted,
    schemas.Alive,
    schemas.Readiness,
    schemas.ProblemKind,
)
_REDIS: Final = ("redis-unavailable", "misconfigured")
_BODY: Final = ("too-large", "malformed-json", "invalid-request")
_WAIT: Final = "Wait for so many seconds for the outcome; answer at once when it is there."


def answers(ok: Ok, *kinds: str, redis: bool = True) -> dict[int | str, Document]:
    """The responses of an operation: `ok`, and the problems it may answer with; `redis`: it needs Redis."""
    found: dict[int | str, Document] = {}
    for status, (struct, meaning, example) in ok.items():
        found[status] = {"description": meaning}
        if struct is not None:
            found[status]["content"] = _content(_ref(struct), example)
    for kind in (*kinds, *(_REDIS if redis else ()), "internal-error"):
        entry = problems.KINDS[kind]
        content = {"schema": _ref(schemas.ProblemDocument), "examples": {}}
        response = found.setdefault(entry.status, {"description": entry.title, "content": {}})
        if entry.title not in response["description"]:
            response["description"] += f", or {entry.title[0].lower()}{entry.title[1:]}"
        media = response["content"].setdefault(problems.MEDIA_TYPE, content)
        example = problems.document(problems.Problem(kind, entry.meaning, examples.problem(kind)))
        media["examples"][kind] = {"summary": entry.title, "value": example}
        if "retry_after" in example:
            response["headers"] = {"Retry-After": {"description": "In seconds.", "schema": {"type": "integer"}}}
    return found


def text_answer(meaning: str, media_type: str, example: str) -> dict[int | str, Document]:
    """The responses of an operation that answers in plain text, and needs nothing for it."""
    content = {media_type: {"schema": {"type": "string"}, "example": example}}
    return {200: {"description": meaning, "content": content}, **answers({}, redis=False)}


def body(struct: type[msgspec.Struct], example: Any, *, required: bool = True) -> Document:
    """The request body of an operation."""
    return {"requestBody": {"required": required, "content": _content(_ref(struct), example)}}


def install(app: FastAPI, settings: Settings) -> None:
    """Make the application serve the whole document."""

    @cache
    def build() -> Document:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
        )
        components = _components(settings)
        document.setdefault("components", {})["schemas"] = components
        for path in document["paths"].values():
            for operation in path.values():
                _drop_default_422(operation["responses"])
        document["paths"] = {**_hot_paths(settings), **document["paths"]}
        return document

    served: Callable[[], Document] = build
    app.openapi = served  # type: ignore[method-assign]  # as FastAPI's manual has it


def _drop_default_422(responses: Document) -> None:
    """FastAPI names its own form of validation errors wherever there is a parameter; it is never sent."""
    if "application/json" in responses.get("422", {}).get("content", {}):
        del responses["422"]


def _components(settings: Settings) -> Document:
    _, components = msgspec.json.schema_components(_STRUCTS, ref_template=_REF)
    for schema in components.values():
        for name, field in schema.get("properties", {}).items():
            if name.endswith("_at"):
                for choice in field.get("anyOf", [field]):
                    if choice.get("type") == "string":
                        choice["format"] = "date-time"
    fields = components["InferenceRequest"]["properties"]
    for name in ("timeout_seconds", "deadline_seconds"):
        fields[name]["anyOf"][0]["maximum"] = settings.max_job_lifetime
    fields["delay_seconds"]["exclusiveMaximum"] = settings.max_job_lifetime
    components["ModelRequest"]["properties"]["timeout_seconds"]["anyOf"][0]["maximum"] = settings.max_job_lifetime
    components["RegisterRequest"]["properties"]["models"]["anyOf"][0].update(minProperties=1, maxProperties=100)
    components["RegisterRequest"]["properties"]["models"]["anyOf"][1].update(minItems=1, maxItems=100)
    return components


def _hot_paths(settings: Settings) -> Document:
    wait = {
        "name": "wait",
        "in": "query",
        "description": _WAIT,
        "schema": {"type": "number", "minimum": 0, "maximum": settings.max_wait},
    }
    key = {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Makes a repeat safe, for ten minutes at least: the same key and job give the same request id. "
        "In a batch, each job's key is this and its place, `<key>:<index>`.",
        "schema": {"type": "string", "pattern": "^[ -~]{1,200}$"},
    }
    prefer = {
        "name": "Prefer",
        "in": "header",
        "description": "`wait=SECONDS`: as `?wait=`, but too much is cut to the limit. Not looked at if `?wait=` is there.",
        "schema": {"type": "string"},
    }
    location = {"Location": {"description": "Where the result is to be read.", "schema": {"type": "string"}}}
    submit = answers(
        {
            200: (Result, "Accepted, and finished within the wait.", examples.RESULT),
            202: (schemas.Accepted, "Accepted.", examples.ACCEPTED),
        },
        *_BODY, "unknown-model", "conflict", "backlog-full", "memory-pressure", "not-durable",
    )  # fmt: skip
    for status in (200, 202):
        submit[status]["headers"] = location
    batch = body(schemas.InferenceRequest, None)
    batch["requestBody"]["content"] = {
        "application/json": {
            "schema": {
                "type": "array",
                "maxItems": settings.max_batch_jobs,
                "items": _ref(schemas.InferenceRequest),
            },
            "example": examples.BATCH,
        },
        "application/x-ndjson": {
            "schema": {"type": "string", "description": "One job per line."},
            "example": examples.BATCH_LINES,
        },
    }
    return {
        "/inference": {
            "post": {
                "tags": ["jobs"],
                "summary": "Submit a job",
                "description": "Accepts a job for a model. With a wait, answers with the outcome if it is there in time.",
                "operationId": "submit",
                "parameters": [wait, prefer, key],
                **body(schemas.InferenceRequest, examples.JOB),
                "responses": _by_name(submit),
            }
        },
        "/inference/batch": {
            "post": {
                "tags": ["jobs"],
                "summary": "Submit many jobs",
                "description": f"A JSON array of at most {settings.max_batch_jobs} jobs, or as many lines with a job each. "
                "Every job is accepted or refused on its own.",
                "operationId": "submit_batch",
                "parameters": [key],
                **batch,
                "responses": _by_name(
                    answers({200: (schemas.BatchAnswer, "Per job its outcome.", examples.BATCH_ANSWER)}, *_BODY)
                ),
            }
        },
        "/result/{request_id}": {
            "get": {
                "tags": ["jobs"],
                "summary": "Read a job's result",
                "description": "What became of a job, or where it is.",
                "operationId": "result",
                "parameters": [
                    {"name": "request_id", "in": "path", "required": True, "schema": schemas.REQUEST_SCHEMA},
                    wait,
                    prefer,
                ],
                "responses": _by_name(
                    answers({200: (Result, "The job.", examples.RESULT)}, "unknown-job", "invalid-request")
                ),
            }
        },
    }


def _by_name(responses: dict[int | str, Document]) -> Document:
    return {str(status): response for status, response in responses.items()}


def _ref(struct: type[msgspec.Struct]) -> Document:
    return {"$ref": _REF.format(name=struct.__name__)}


def _content(schema: Document, example: Any) -> Document:
    return {"application/json": {"schema": schema, "example": example}}
