"""Logs: structlog, one event per line. JSON (by orjson) unless a person is looking at a terminal."""

from __future__ import annotations

import logging
import sys
from typing import Any

import orjson
import structlog

from coordinator.core.settings import Settings


def configure(settings: Settings, process: str) -> None:
    """Set up logging for a process named `process` (api, dispatcher, worker …). Lines go to stderr."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    factory: Any
    if as_json:
        processors += [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_dumps),
        ]
        factory = structlog.BytesLoggerFactory(sys.stderr.buffer)
    else:
        processors += [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
        factory = structlog.PrintLoggerFactory(sys.stderr)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.log_level.upper())),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)


def get(name: str) -> structlog.typing.FilteringBoundLogger:
    """The logger of the duty `name`. In a program of somebody else's (no `configure`), it is one of the standard library's."""
    logger: structlog.typing.FilteringBoundLogger
    if structlog.is_configured():
        logger = structlog.get_logger(duty=name)
    else:
        logger = structlog.wrap_logger(
            logging.getLogger(f"coordinator.{name}"),
            processors=[structlog.stdlib.filter_by_level, structlog.processors.KeyValueRenderer(key_order=["event"])],
            wrapper_class=structlog.stdlib.BoundLogger,
        )
    return logger


def _dumps(event: dict[str, Any], **_: Any) -> bytes:
    return orjson.dumps(event, default=str)
