"""A job's state and outcome, as the producer gets it."""

from __future__ import annotations

from typing import Any, Final, TypeVar, overload

import msgspec

from coordinator.client.errors import JobFailed
from coordinator.core import records
from coordinator.core.results import Result

_T = TypeVar("_T")


class JobResult(Result, omit_defaults=True):
    """What `Result` holds, and `value()`, the output as a Python value."""

    @overload
    def value(self) -> Any: ...
    @overload
    def value(self, type: type[_T]) -> _T: ...
    def value(self, type: Any = Any) -> Any:  # noqa: A002 - msgspec's word for it
        """The output, decoded and checked against `type`. Raises `JobFailed` unless the job has succeeded."""
        if self.status != records.SUCCEEDED or self.output is msgspec.UNSET:
            raise JobFailed(self)
        return msgspec.json.decode(self.output, type=type)


decode_result: Final = msgspec.json.Decoder(JobResult).decode


def job_result(result: Result) -> JobResult:
    """The producer's form of a result that the core read."""
    return JobResult(*msgspec.structs.astuple(result))
