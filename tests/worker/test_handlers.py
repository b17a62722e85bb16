"""How a handler is looked at: its parameter, its types, its numbers."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import msgspec
import pytest

from coordinator.core.errors import InvalidInput
from coordinator.worker import Worker
from coordinator.worker.handlers import Handler


class Point(msgspec.Struct):
    x: float
    y: float = 0.0


def plain(value):  # type: ignore[no-untyped-def]
    return value


def typed(point: Point) -> float:
    return point.x


def many(points: list[Point]) -> list[float]:
    return [point.x for point in points]


def sequence(points: Sequence[Point]) -> list[float]:
    return [point.x for point in points]


def some(points: list) -> list:  # type: ignore[type-arg]
    return points


def text(data: bytes) -> int:
    return len(data)


def raw(data: msgspec.Raw) -> int:
    return len(data)


async def later(value: int) -> int:
    return value


class Model:
    def __call__(self, point: Point) -> float:
        return point.x

    async def predict(self, point: Point) -> float:
        return point.x


class AsyncModel:
    async def __call__(self, point: Point) -> float:
        return point.x


@pytest.mark.parametrize(
    ("function", "batch", "read"),
    [
        (plain, 1, {"x": 1}),
        (plain, 4, {"x": 1}),
        (typed, 1, Point(1)),
        (many, 4, Point(1)),
        (sequence, 4, Point(1)),
        (some, 4, {"x": 1}),
        (text, 1, b'{"x":1}'),
        (raw, 1, msgspec.Raw(b'{"x":1}')),
        (Model(), 1, Point(1)),
        (Model().predict, 1, Point(1)),
        (AsyncModel(), 1, Point(1)),
        (functools.partial(typed), 1, Point(1)),
        (lambda value, scale=2: value, 1, {"x": 1}),
    ],
)
def test_input_is_read_as_the_parameter_says(function: Callable[..., Any], batch: int, read: Any) -> None:
    assert Handler("m", function, batch=batch).decoder()(b'{"x":1}') == read


@pytest.mark.parametrize(
    ("function", "is_async"),
    [
        (plain, False),
        (later, True),
        (Model(), False),
        (Model().predict, True),
        (AsyncModel(), True),
        (functools.partial(later), True),
    ],
)
def test_async_handlers_are_known(function: Callable[..., Any], is_async: bool) -> None:
    assert Handler("m", function).is_async is is_async


def no_parameter() -> None: ...
def two_parameters(a: int, b: int) -> None: ...
def keyword_only(*, a: int) -> None: ...
def generator(value: int) -> Iterator[int]:
    yield value


async def async_generator(value: int) -> AsyncIterator[int]:
    yield value


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (no_parameter, "takes one argument"),
        (two_parameters, "takes one argument"),
        (keyword_only, "takes one argument"),
        (generator, "generator"),
        (async_generator, "generator"),
        ("not a function", "callable"),
    ],
)
def test_what_is_no_handler_is_refused(function: Any, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        Worker().model("m")(function)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"capacity": 0}, "capacity"),
        ({"batch": 0}, "batch"),
        ({"capacity": 1000, "batch": 1000}, "capacity times batch"),
        ({"batch_wait": -1}, "batch_wait"),
        ({"batch_wait": 1.1}, "batch_wait"),
        ({"timeout": 0}, "timeout"),
        ({"prefetch": -1}, "prefetch"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        Worker().model("m", **options)(plain)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a{b}", "a\nb", "x" * 201])
def test_names_that_can_not_be_keys_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="model name"):
        Worker().model(name)(plain)


def test_a_model_has_one_handler() -> None:
    worker = Worker()
    worker.model("m")(plain)
    with pytest.raises(InvalidInput, match="two handlers"):
        worker.model("m")(plain)


def wants_int(values: int) -> list[int]:
    return [values]


def wants_unknown(value: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
    ...


@pytest.mark.parametrize(("function", "batch", "why"), [(wants_int, 2, "takes a list"), (wants_unknown, 1, "Nowhere")])
def test_types_that_can_not_be_read_are_refused(function: Any, batch: int, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        Handler("m", function, batch=batch).decoder()


def test_slots_and_window() -> None:
    assert Handler("m", plain, capacity=2, batch=8).slots == 16
    assert Handler("m", plain, capacity=2, batch=8).window == 32
    assert Handler("m", plain, capacity=2, prefetch=0).window == 2
