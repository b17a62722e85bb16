"""The OpenAPI document is true: it is valid, its examples fit it, and no request finds an answer that it does not name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest
import schemathesis
from harness.api import Serve
from harness.redis import RedisServer
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from coordinator.api.app import create_app
from coordinator.core.settings import Settings

CHANGES = {"max_wait": 0.05, "durability_wait": 0.01}
"""So that no test waits for long."""
DOCUMENT: dict[str, Any] = json.loads(json.dumps(create_app(Settings.model_validate(CHANGES)).openapi()))


def _examples() -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Every example: where it is, its schema, and itself."""
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            bodies = {"body": operation.get("requestBody", {}), **operation["responses"]}
            for name, body in bodies.items():
                for media_type, content in body.get("content", {}).items():
                    where = f"{method} {path} {name} {media_type}"
                    if "example" in content:
                        yield where, content["schema"], content["example"]
                    for kind, example in content.get("examples", {}).items():
                        yield f"{where} {kind}", content["schema"], example["value"]


@pytest.mark.parametrize(("where", "schema", "example"), [pytest.param(*e, id=e[0]) for e in _examples()])
def test_each_example_fits_its_schema(where: str, schema: dict[str, Any], example: Any) -> None:
    jsonschema_rs.validate({**schema, "components": DOCUMENT["components"]}, example)


def test_each_operation_has_an_example_of_each_body() -> None:
    described = {where for where, _, _ in _examples()}
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            assert operation["summary"], path
            assert operation["tags"], path
            for name, body in {"body": operation.get("requestBody", {}), **operation["responses"]}.items():
                for media_type in body.get("content", {}):
                    where = f"{method} {path} {name} {media_type}"
                    assert any(other.startswith(where) for other in described), where


def test_each_schema_is_used() -> None:
    text = json.dumps(DOCUMENT)
    for name in DOCUMENT["components"]["schemas"]:
        assert f"#/components/schemas/{name}" in text


async def test_a_page_for_people_is_served(serve: Serve) -> None:
    _, api = await serve(**CHANGES)
    assert (await api.get("/openapi.json")).json() == DOCUMENT
    response = await api.get("/docs")
    assert response.status_code == 200
    assert "/openapi.json" in response.text


@pytest.fixture(scope="module")
def url(redis_server: RedisServer) -> Iterator[str]:
    """A process that serves on a database of its own, and knows the model of the examples."""
    changes = {"redis_url": redis_server.url(7), "log_format": "json", **CHANGES}
    with redis_server.client(7) as redis:
        redis.flushdb()
    process = subprocess.Popen(
        [sys.executable, "-m", "coordinator.api", "--port", "0"],
        env={**os.environ, **{f"COORDINATOR_{name.upper()}": str(value) for name, value in changes.items()}},
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        url = json.loads(process.stderr.readline())["url"]
        httpx.post(f"{url}/register", json={"models": ["digits"]}).raise_for_status()
        yield url
        process.terminate()
        assert process.wait() == 0
        unforeseen = [line for line in process.stderr if b'"error"' in line]
        assert unforeseen == []
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@schemathesis.serializer("application/x-ndjson")
def _lines(_: schemathesis.SerializationContext, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


_TOO_STRICT = [
    # A schema can't say all: 1.0 is an integer to it, a window may be smaller than its capacity.
    positive_data_acceptance,
    # A batch is accepted whatever its jobs are, each of which has an answer of its own.
    negative_data_rejection,
]


@schemathesis.openapi.from_dict(DOCUMENT).parametrize()
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_foreseen(case: schemathesis.Case[Any], url: str) -> None:
    response = case.call(base_url=url)
    if response.status_code >= 500:
        # There is no replica and no disk here, and asking for them is fine.
        assert response.json()["type"] == "/problems/not-durable"
    case.validate_response(response, excluded_checks=[schemathesis.checks.not_a_server_error, *_TOO_STRICT])
