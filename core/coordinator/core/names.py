"""Names at the door: model names, worker ids and request ids, made and checked.

Whatever becomes part of a key passes here first.
"""

from __future__ import annotations

import base64
import os
import re
from typing import Final, NamedTuple

from coordinator.core import keys
from coordinator.core.errors import InvalidInput, NotFound

_MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}", re.ASCII)
_WORKER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
_REQUEST: Final = re.compile(r"(0|[1-9][0-9]{0,4})-([1-9][0-9]{0,9})-([a-z2-7]{16})", re.ASCII)
_RANDOM_BYTES: Final = 10  # 80 bits, 16 characters of base 32
_TO_BASE32: Final = b"abcdefghijklmnopqrstuvwxyz234567" * 8
"""Any byte → one of 32 characters, evenly. Quicker than base 32, which Python does by hand."""


def check_model(name: str) -> str:
    """Return `name`, or raise `InvalidInput`."""
    if _MODEL.fullmatch(name) is None:
        raise InvalidInput(
            f"The model name {_shown(name)} is not valid: use 1 to 200 letters, digits, '.', '_', '-' or '/', "
            "beginning with a letter or digit."
        )
    return name


def check_worker(name: str) -> str:
    """Return `name`, or raise `InvalidInput`."""
    if _WORKER.fullmatch(name) is None:
        raise InvalidInput(
            f"The worker id {_shown(name)} is not valid: use 1 to 100 letters, digits, '.', '_' or '-', "
            "beginning with a letter or digit."
        )
    return name


class RequestId(NamedTuple):
    """A request id taken apart: `<partition>-<bucket>-<random>`."""

    partition: int
    bucket: int
    random: str


def parse_request_id(text: str, partitions: int) -> RequestId:
    """Take a request id apart. Raises `NotFound`: an id that we can't have made names no job."""
    match = _REQUEST.fullmatch(text)
    if match is None or int(match[1]) >= partitions:
        raise NotFound(f"There is no job with the id {_shown(text)}.")
    return RequestId(int(match[1]), int(match[2]), match[3])


def request_ids(partition: int, now_ms: int, count: int) -> list[str]:
    """Make `count` new request ids, each with 80 unguessable bits."""
    text = os.urandom(16 * count).translate(_TO_BASE32).decode()
    head = f"{partition}-{now_ms // 1000 // keys.BUCKET_SECONDS}-"
    return [head + text[i : i + 16] for i in range(0, 16 * count, 16)]


def request_id_from(digest: bytes, partition: int, now_ms: int) -> str:
    """The request id that belongs to an idempotency key, whose `digest` has at least 10 bytes."""
    random = base64.b32encode(digest[:_RANDOM_BYTES]).decode().lower()
    return f"{partition}-{now_ms // 1000 // keys.BUCKET_SECONDS}-{random}"


def new_worker_id(host: str) -> str:
    """A worker id nobody else has: the host's name, made fit, and 40 random bits."""
    clean = re.sub(r"[^A-Za-z0-9.-]", "-", host).strip("-.")[:60] or "worker"
    return f"{clean}-{base64.b32encode(os.urandom(5)).decode().lower()}"


def new_incarnation() -> str:
    """What tells one life of a worker id from the next."""
    return os.urandom(8).hex()


def _shown(text: str) -> str:
    """A name fit for an error message: quoted, without control characters, cut at 60 characters."""
    cut = text if len(text) <= 60 else text[:60] + "…"
    return repr(cut)
