"""Many jobs as few requests: batches small enough for the coordinator's limits, and what it answers to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from coordinator.client.errors import Problem
from coordinator.client.requests import JobRequest, to_json
from coordinator.core.errors import CoordinatorError, InvalidInput

MAX_JOBS: Final = 500
MAX_BYTES: Final = 8 << 20


class Answer(msgspec.Struct):
    """What became of one job of a batch."""

    request_id: str = ""
    problem: Problem | None = None


class _Answers(msgspec.Struct):
    results: list[Answer]


_decode: Final = msgspec.json.Decoder(_Answers).decode


def decode_answers(body: bytes) -> list[Answer]:
    """The answers of `POST /inference/batch`, in the order of the jobs."""
    return _decode(body).results


class Batch:
    """Some jobs of a submission, as JSON, and where in it they stand."""

    def __init__(self, indexes: Sequence[int], jobs: Sequence[bytes]) -> None:
        self.indexes = indexes
        self._jobs = jobs

    def body(self) -> bytes:
        return b"[%b]" % b",".join(self._jobs)

    def only(self, indexes: Iterable[int]) -> Batch:
        """A batch of some of these jobs."""
        by_index = dict(zip(self.indexes, self._jobs, strict=True))
        kept = list(indexes)
        return Batch(kept, [by_index[i] for i in kept])


def split(requests: Sequence[JobRequest], errors: list[str | CoordinatorError]) -> Iterator[Batch]:
    """The requests as batches. A job that has no JSON form is left out, and its error put into `errors`."""
    indexes: list[int] = []
    jobs: list[bytes] = []
    size = 0
    for i, request in enumerate(requests):
        try:
            job = to_json(request)
        except InvalidInput as error:
            errors[i] = error
            continue
        if jobs and (len(jobs) >= MAX_JOBS or size + len(job) > MAX_BYTES):
            yield Batch(indexes, jobs)
            indexes, jobs, size = [], [], 0
        indexes.append(i)
        jobs.append(job)
        size += len(job)
    if jobs:
        yield Batch(indexes, jobs)
