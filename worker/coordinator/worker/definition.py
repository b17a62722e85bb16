"""`Worker`: what an ML engineer writes. It only remembers; running it is the runtime's business."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from coordinator.core.errors import InvalidInput
from coordinator.worker.handlers import Handler

_F = TypeVar("_F", bound=Callable[..., Any])
Hook = Callable[[], Any]


class Worker:
    """The models that one worker process serves, and what is done before and after.

    `metadata`: any JSON that operators are to see in the list of workers, such as `{"device": "cuda:0"}`.
    """

    def __init__(self, metadata: Mapping[str, Any] | None = None) -> None:
        self.metadata = dict(metadata or {})
        self.handlers: dict[str, Handler] = {}
        self.startups: list[Hook] = []
        self.shutdowns: list[Hook] = []

    def model(
        self,
        name: str,
        *,
        capacity: int = 1,
        batch: int = 1,
        batch_wait: float = 0.0,
        timeout: float | None = None,
        version: str | None = None,
        prefetch: int | None = None,
    ) -> Callable[[_F], _F]:
        """Let the decorated function serve the model `name`. Times in seconds.

        `capacity`: calls at once (threads, or tasks of an async handler). `batch`: the most jobs in one call; above 1, the
        function takes a list and returns a list. `batch_wait`: how long a call may wait for more jobs to share it, at most 1 s.
        `timeout`: time limit of a call, for jobs that bring none. `version`: shown to operators. `prefetch`: jobs held
        ready beyond those in work; by default as many as are in work.

        Raises `InvalidInput`.
        """

        def register(function: _F) -> _F:
            if name in self.handlers:
                raise InvalidInput(f"The model '{name}' has two handlers.")
            self.handlers[name] = Handler(name, function, capacity, batch, batch_wait, timeout, version, prefetch)
            return function

        return register

    def startup(self, hook: _F) -> _F:
        """Call this, sync or async, before the worker registers: load weights here."""
        self.startups.append(hook)
        return hook

    def shutdown(self, hook: _F) -> _F:
        """Call this, sync or async, after the last job."""
        self.shutdowns.append(hook)
        return hook
