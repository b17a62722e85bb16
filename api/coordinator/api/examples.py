"""The examples of the OpenAPI page: one small story, the model `digits` and one worker."""

from __future__ import annotations

from typing import Any, Final

from coordinator.core import keys

_ID: Final = "0-5873291-abcdefghij234567"
_WORKER: Final = "gpu-7-k3mz5xqa"
_INPUT: Final = [0.0, 0.0, 5.0, 13.0]

JOB: Final = {"model": "digits", "input": _INPUT, "priority": "high", "timeout_seconds": 10}
ACCEPTED: Final = {"request_id": _ID, "status": "queued", "model": "digits"}
BATCH: Final = [{"model": "digits", "input": _INPUT}, {"model": "unheard-of", "input": 1}]
BATCH_LINES: Final = '{"model":"digits","input":[0.0,5.0]}\n{"model":"digits","input":[1.0,3.0]}\n'
BATCH_ANSWER: Final = {
    "results": [
        ACCEPTED,
        {
            "problem": {
                "type": "/problems/unknown-model",
                "title": "Unknown model",
                "status": 404,
                "detail": "No worker has ever registered the model 'unheard-of'. See GET /models for those known.",
                "model": "unheard-of",
            }
        },
    ]
}
RESULT: Final = {
    "request_id": _ID,
    "status": "succeeded",
    "model": "digits",
    "attempts": 1,
    "submitted_at": "2026-01-05T09:00:00.120000Z",
    "worker_id": _WORKER,
    "finished_at": "2026-01-05T09:00:00.135000Z",
    "output": 4,
}
CANCELLED: Final = {
    "request_id": _ID,
    "status": "cancelled",
    "model": "digits",
    "attempts": 0,
    "submitted_at": "2026-01-05T09:00:00.120000Z",
    "finished_at": "2026-01-05T09:00:01.004000Z",
}
REGISTER: Final = {"models": {"digits": {"capacity": 8, "version": "1"}}, "metadata": {"device": "cuda:0"}}
REGISTERED: Final = {
    "worker_id": _WORKER,
    "incarnation": "8f14e45fceea167a",
    "lease_seconds": 10.0,
    "heartbeat_seconds": 2.5,
    "redis_url": "redis://127.0.0.1:6379/0",
    "partitions": 1,
    "models": {
        "digits": {
            "stream": keys.inbox(0, _WORKER, "digits"),
            "group": "worker",
            "partition": 0,
            "timeout_seconds": 30.0,
        }
    },
    "settings": {
        "inline_bytes": 2048,
        "max_attempts": 3,
        "max_job_lifetime_seconds": 3600.0,
        "dead_retention_seconds": 604800.0,
        "backoff_base_seconds": 1.0,
        "backoff_cap_seconds": 60.0,
    },
}
HEARTBEAT: Final = {"incarnation": "8f14e45fceea167a"}
WORKER_STATE: Final = {"worker_id": _WORKER, "state": "live"}
DRAINING: Final = {"worker_id": _WORKER, "state": "draining"}
WORKERS: Final = {
    "workers": [
        {
            "worker_id": _WORKER,
            "state": "live",
            "models": {"digits": {"capacity": 8, "outstanding": 3, "window": 16, "version": "1"}},
            "heartbeat_age_seconds": 1.2,
            "registered_at": "2026-01-05T08:59:10.004000Z",
            "metadata": {"device": "cuda:0"},
        }
    ]
}
MODELS: Final = {
    "models": {
        "digits": {
            "workers": 1,
            "capacity": 8,
            "outstanding": 3,
            "backlog": {"retry": 0, "high": 0, "normal": 12, "low": 0},
            "oldest_wait_seconds": 0.4,
        }
    }
}
DEAD_LETTER: Final = {
    "request_id": _ID,
    "model": "digits",
    "reason": "attempts",
    "attempts": 3,
    "submitted_at": "2026-01-05T09:00:00.120000Z",
    "died_at": "2026-01-05T09:00:07.510000Z",
    "input": _INPUT,
    "worker_id": _WORKER,
    "error": {"type": "exception", "message": "ValueError: expected 64 pixels, got 4"},
}
DEAD_LETTERS: Final = {"dead": [DEAD_LETTER]}
RETRY: Final = {"request_id": "0-5873292-klmnopqrst234567", "retry_of": _ID, "status": "queued"}
NOT_READY: Final = {"status": "not ready", "reasons": ["Redis is not available: Connection refused"]}
METRICS: Final = """\
# HELP coordinator_model_backlog Jobs that wait in a lane.
# TYPE coordinator_model_backlog gauge
coordinator_model_backlog{lane="normal",model="digits"} 12.0
"""
PROBLEM_KIND: Final = {
    "type": "/problems/unknown-job",
    "title": "Unknown job",
    "status": 404,
    "meaning": "No job has this request id, or its outcome was kept for its time and is gone.",
}


def problem(kind: str) -> dict[str, Any]:
    """An example's members beyond the four that every problem has."""
    return _EXTRA.get(kind, {})


_EXTRA: Final[dict[str, dict[str, Any]]] = {
    "too-large": {"limit": 1048576},
    "unknown-model": {"model": "unheard-of"},
    "conflict": {"request_id": _ID},
    "invalid-state": {"request_id": _ID, "job_status": "succeeded"},
    "backlog-full": {"model": "digits", "retry_after": 1.0},
    "memory-pressure": {"retry_after": 2.0},
    "not-durable": {"retry_after": 1.0},
    "redis-unavailable": {"retry_after": 1.0},
    "invalid-request": {"errors": [{"detail": "Expected `str`, got `int` at /model.", "pointer": "#/model"}]},
}
