"""Handlers: an ML engineer's function, looked at once, so that calling it needs no more looking."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from coordinator.core import names
from coordinator.core.errors import InvalidInput

_LISTS: Final = (list, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_MAX_SLOTS: Final = 100_000


@dataclass(frozen=True)
class Handler:
    """A function that serves a model, and how it wants to be called. Times in seconds."""

    model: str
    function: Callable[[Any], Any]
    capacity: int = 1
    """Calls at once."""
    batch: int = 1
    """The most jobs in one call. Above 1, the function takes a list and returns a list of the same length."""
    batch_wait: float = 0.0
    """How long a call may wait for more jobs to share it: at most a second, for it counts towards their time limits."""
    timeout: float | None = None
    """Time limit of a call, for jobs that bring none."""
    version: str | None = None
    prefetch: int | None = None
    """Jobs held beyond those in work, so that the next is there when one ends; by default as many as are in work."""

    def __post_init__(self) -> None:
        names.check_model(self.model)
        self._demand(self.capacity >= 1, "capacity must be at least 1")
        self._demand(self.batch >= 1, "batch must be at least 1")
        self._demand(self.slots <= _MAX_SLOTS, f"capacity times batch must be at most {_MAX_SLOTS}")
        self._demand(
            0 <= self.batch_wait <= 1, "batch_wait must be from 0 to 1 second, for it counts towards time limits"
        )
        self._demand(self.timeout is None or 0 < self.timeout < float("inf"), "timeout must be above 0 seconds")
        self._demand(self.prefetch is None or 0 <= self.prefetch <= 3 * _MAX_SLOTS, "prefetch must be at least 0")
        self._demand(callable(self.function), "the handler must be callable")
        self._demand(
            not inspect.isgeneratorfunction(self.function) and not inspect.isasyncgenfunction(self.function),
            "a handler returns its output; it can't be a generator",
        )
        self._parameter()

    @property
    def slots(self) -> int:
        """Jobs in work at once."""
        return self.capacity * self.batch

    @property
    def window(self) -> int:
        """Jobs that it may hold, in work or not."""
        return self.slots + (max(1, self.slots) if self.prefetch is None else self.prefetch)

    @property
    def is_async(self) -> bool:
        function = self._plain_function()
        return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - the method itself is wanted
        )

    def decoder(self) -> Callable[[bytes], Any]:
        """What turns an input's JSON text into the value that the function takes. Raises `InvalidInput`."""
        wanted = self._input_type()
        if wanted is bytes:
            return bytes
        if wanted is msgspec.Raw:
            return msgspec.Raw
        try:
            return msgspec.json.Decoder(wanted).decode
        except Exception as error:
            raise InvalidInput(
                f"The handler of '{self.model}' takes {wanted}, which can't be read from JSON: {error}"
            ) from error

    def _input_type(self) -> Any:
        function = self._plain_function()
        annotated: Any = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004 - the method itself is wanted
        try:
            hints = typing.get_type_hints(annotated, include_extras=True)
        except Exception as error:
            raise InvalidInput(
                f"The annotations of the handler of '{self.model}' can't be resolved: {error}"
            ) from error
        wanted = hints.get(self._parameter().name, Any)
        if self.batch == 1 or wanted is Any:
            return wanted
        if wanted in _LISTS:
            return Any
        self._demand(
            typing.get_origin(wanted) in _LISTS and len(typing.get_args(wanted)) == 1,
            f"a batch handler takes a list, not {wanted}",
        )
        return typing.get_args(wanted)[0]

    def _parameter(self) -> inspect.Parameter:
        """The one parameter that takes the input."""
        try:
            parameters = list(inspect.signature(self.function).parameters.values())
        except (TypeError, ValueError):
            # Something in C that does not tell its signature.
            return inspect.Parameter("input", inspect.Parameter.POSITIONAL_ONLY)
        positional = (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            inspect.Parameter.VAR_POSITIONAL,
        )
        first, rest = parameters[:1], parameters[1:]
        fits = bool(first) and first[0].kind in positional
        optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        fits = fits and all(p.kind in optional or p.default is not inspect.Parameter.empty for p in rest)
        self._demand(fits, "a handler takes one argument, the input" + (" list" if self.batch > 1 else ""))
        return first[0]

    def _plain_function(self) -> Any:
        function: Any = self.function
        while isinstance(function, functools.partial):
            function = function.func
        return function

    def _demand(self, holds: bool, message: str) -> None:
        if not holds:
            raise InvalidInput(f"The model '{self.model}': {message}.")
