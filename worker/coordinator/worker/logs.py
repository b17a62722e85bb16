"""Logs of handlers: every line says which job it is about, and the standard library's logging comes out the same way."""

from __future__ import annotations

import logging as std_logging
from collections.abc import MutableMapping
from typing import Any

import structlog

from coordinator.worker.context import current


def add_job(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: adds the running job's request id and attempt. Looked up only when something is logged."""
    call = current.get(None)
    if call is not None and "request_id" not in event:
        if len(call.running) == 1:
            event["request_id"] = call.running[0].request_id.decode()
            event["attempt"] = int(call.running[0].attempt)
        else:
            event["request_ids"] = [delivery.request_id.decode() for delivery in call.running]
    return event


class _ToStructlog(std_logging.Handler):
    """Hands records of the standard library's logging to structlog."""

    def emit(self, record: std_logging.LogRecord) -> None:
        try:
            logger = structlog.get_logger().bind(logger=record.name)
            logger.log(record.levelno, record.getMessage(), exc_info=record.exc_info or None)
        except Exception:
            self.handleError(record)


def configure(level: str) -> None:
    """Set up handlers' logs, after the core's `logging.configure`."""
    structlog.configure(processors=[add_job, *structlog.get_config()["processors"]])
    root = std_logging.getLogger()
    if not root.handlers:
        root.addHandler(_ToStructlog())
        root.setLevel(level.upper())
    for chatty in ("httpx", "httpcore", "asyncio"):
        std_logging.getLogger(chatty).setLevel(std_logging.WARNING)
