"""One call of a handler: what its jobs' outcomes are, whatever it does."""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from coordinator.core.records import Problem
from coordinator.core.settings import Settings
from coordinator.core.steps import Completion, Failure
from coordinator.worker import Fail, Retry, job
from coordinator.worker.deliveries import Call, Delivery, Reading
from coordinator.worker.handlers import Handler
from coordinator.worker.invocation import Invocation
from coordinator.worker.outcomes import Outcomes
from coordinator.worker.policy import Policy

POLICY = Policy.of(Settings())


def rows(*inputs: bytes, attempt: bytes = b"1", options: bytes = b"") -> list[Any]:
    head = b'{"submitted_at":1700000000000,%b"model":"m"' % options
    return [
        [b"1700000000001-%d" % i, [b"id", b"0-1-%d" % i, b"attempt", attempt, b"job", b'%b,"input":%b}' % (head, text)]]
        for i, text in enumerate(inputs)
    ]


def delivered(*inputs: bytes, **options: Any) -> list[Delivery]:
    return Reading("m", 30.0).deliveries(rows(*inputs, **options), 0.0)


def called(function: Callable[..., Any], *inputs: bytes, batch: int = 1, **options: Any) -> list[Completion | Failure]:
    handler = Handler("m", function, batch=batch)
    call = Call(delivered(*inputs, **options))
    done = contextvars.copy_context().run(Invocation(handler, Outcomes(POLICY, "m")).run, call)
    return [outcome for _, outcome in sorted(done, key=lambda one: one[0].order)]


def output(outcome: Completion | Failure) -> Any:
    assert isinstance(outcome, Completion), outcome
    return msgspec.json.decode(b"{" + outcome.tail)["output"]


def problem(outcome: Completion | Failure) -> tuple[str, Problem]:
    assert isinstance(outcome, Failure), outcome
    assert outcome.problem is not None
    return outcome.kind, outcome.problem


def test_a_completion_repeats_the_head_and_ends_in_the_output() -> None:
    (done,) = called(lambda value: value + 1, b"41", attempt=b"3")
    assert isinstance(done, Completion)
    assert done.entry == b"1700000000001-0"
    assert done.request_id == b"0-1-0"
    assert done.tail == b'"attempts":3,"submitted_at":1700000000000,"model":"m","output":42}'
    assert done.flags == b""


def test_a_large_output_goes_out_of_line() -> None:
    (done,) = called(lambda value: "x" * 5000, b"0", options=b'"input_bytes":9999,')
    assert isinstance(done, Completion)
    assert done.flags == b"io"
    assert done.output == b'"%b"' % (b"x" * 5000)
    assert done.tail.endswith(b',"output_bytes":5002}')


def test_options_of_the_job_are_read() -> None:
    (plain,) = delivered(b"1")
    assert (plain.timeout, plain.deadline_at, plain.input_bytes) == (30.0, None, 0)
    (special,) = delivered(b"1", options=b'"deadline_at":1700000009999,"timeout_ms":1500,"input_bytes":77,')
    assert (special.timeout, special.deadline_at, special.input_bytes) == (1.5, 1700000009999, 77)
    assert special.input == b"1"


def test_a_deadline_holds_only_for_the_first_start() -> None:
    (again,) = delivered(b"1", attempt=b"2", options=b'"deadline_at":1700000009999,')
    assert again.deadline_at is None


def test_suspects_are_known() -> None:
    row = rows(b"1")[0]
    row[1][4:4] = [b"crashed", b"w1,w2"]
    (delivery,) = Reading("m", 1.0).deliveries([row], 0.0)
    assert delivery.crashed
    assert delivery.input == b"1"


def test_entries_that_are_gone_are_left_out() -> None:
    assert Reading("m", 1.0).deliveries([[b"1-1", None]], 0.0) == []


class Scalar:
    """As numpy's and torch's."""

    def tolist(self) -> float:
        return 1.5


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, None),
        (float("nan"), None),
        (Scalar(), 1.5),
        ([Scalar(), {"a": Scalar()}], [1.5, {"a": 1.5}]),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00Z"),
        (msgspec.Raw(b'{"a": 1}'), {"a": 1}),
    ],
)
def test_outputs_are_written_as_json(value: Any, written: Any) -> None:
    (done,) = called(lambda _: value, b"0")
    assert output(done) == written


@pytest.mark.parametrize(
    "value", [object(), {object(): 1}, "\ud800", msgspec.Raw(b"{"), lambda: 0], ids=lambda v: type(v).__name__
)
def test_outputs_that_are_not_json_fail_the_job_for_good(value: Any) -> None:
    (done,) = called(lambda _: value, b"0")
    kind, why = problem(done)
    assert (kind, why.type) == ("final", "bad_output")
    assert "JSON" in why.message


def test_an_output_beyond_all_measure_fails_the_job() -> None:
    (done,) = called(lambda _: "x" * (33 << 20), b"0")
    assert problem(done)[1].type == "bad_output"


def typed(value: int) -> int:
    return value


@pytest.mark.parametrize("text", [b'"x"', b"1.5", b"[", b"", b'"\xff"'])
def test_inputs_that_do_not_fit_fail_for_good_and_are_never_seen(text: bytes) -> None:
    (done,) = called(typed, text)
    kind, why = problem(done)
    assert (kind, why.type) == ("final", "bad_input")
    assert "'m'" in why.message


def raising(error: BaseException) -> Callable[[Any], Any]:
    def handler(_: Any) -> Any:
        raise error

    return handler


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("no luck"), "ValueError: no luck"),
        (KeyError("k"), "KeyError: 'k'"),
        (RuntimeError(), "RuntimeError"),
        (SystemExit(3), "The handler called sys.exit(3)."),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (GeneratorExit(), "GeneratorExit"),
        (RecursionError("deep"), "RecursionError: deep"),
    ],
)
def test_what_a_handler_raises_uses_up_an_attempt(error: BaseException, said: str) -> None:
    (done,) = called(raising(error), b"0")
    kind, why = problem(done)
    assert (kind, why.type, why.message) == ("retry", "exception", said)
    assert why.detail is not None
    assert "in handler" in why.detail


def test_retry_says_when() -> None:
    (done,) = called(raising(Retry(after=2.5)), b"0")
    assert isinstance(done, Failure)
    assert (done.kind, done.delay_ms) == ("retry", 2500)


@pytest.mark.parametrize("after", [-1, float("inf"), float("nan")])
def test_retry_at_no_time_is_refused(after: float) -> None:
    with pytest.raises(ValueError, match="after"):
        Retry(after=after)


def test_fail_is_final() -> None:
    (done,) = called(raising(Fail("broken picture", type="picture", detail="header")), b"0")
    assert problem(done) == ("final", Problem("picture", "broken picture", "header"))


def test_waits_grow_up_to_a_cap() -> None:
    waits = []
    for attempt in (1, 2, 3, 50):
        (done,) = called(raising(ValueError()), b"0", attempt=b"%d" % attempt)
        assert isinstance(done, Failure)
        waits.append(done.delay_ms)
    for wait, longest in zip(waits, (1000, 2000, 4000, 60_000), strict=True):
        assert longest / 2 <= wait <= longest


def test_long_messages_are_cut() -> None:
    (done,) = called(raising(ValueError("x" * 100_000 + "\ud800")), b"0")
    assert len(problem(done)[1].message) == 1000


def test_a_batch_gets_a_list_and_returns_one() -> None:
    done = called(lambda values: [value * 2 for value in values], b"1", b"2", b"3", batch=8)
    assert [output(one) for one in done] == [2, 4, 6]


def test_a_bad_input_fails_alone() -> None:
    seen = []

    def handler(values: list[int]) -> list[int]:
        seen.extend(values)
        return values

    done = called(handler, b"1", b'"x"', b"3", batch=8)
    assert seen == [1, 3]
    assert output(done[0]) == 1
    assert problem(done[1])[1].type == "bad_input"
    assert output(done[2]) == 3


def test_a_batch_of_bad_inputs_calls_nobody() -> None:
    def handler(values: list[int]) -> list[int]:
        raise AssertionError

    assert [problem(one)[1].type for one in called(handler, b'"x"', b'"y"', batch=8)] == ["bad_input"] * 2


def test_an_exception_in_a_place_fails_that_place() -> None:
    done = called(lambda values: [1, ValueError("no"), Fail("never"), Retry(after=1), object()], *[b"0"] * 5, batch=8)
    assert output(done[0]) == 1
    assert problem(done[1])[0] == "retry"
    assert problem(done[2])[0] == "final"
    assert problem(done[3])[1].type == "retry"
    assert problem(done[4])[1].type == "bad_output"


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ([1], "returned 1 results for 2 jobs"),
        ([1, 2, 3], "returned 3 results for 2 jobs"),
        (None, "not NoneType"),
        ({"a": 1, "b": 2}, "not dict"),
        ("ab", "not str"),
    ],
)
def test_results_that_do_not_match_the_jobs_fail_all(result: Any, said: str) -> None:
    done = called(lambda values: result, b"0", b"0", batch=8)
    for one in done:
        kind, why = problem(one)
        assert (kind, why.type) == ("final", "bad_output")
        assert said in why.message


def test_an_array_is_a_list() -> None:
    numpy = pytest.importorskip("numpy")
    done = called(lambda values: numpy.array(values) * 2, b"1", b"2", batch=8)
    assert [output(one) for one in done] == [2, 4]


def test_a_batch_that_raises_fails_all() -> None:
    done = called(raising(SystemExit(1)), b"0", b"0", batch=8)
    assert [problem(one)[0] for one in done] == ["retry", "retry"]


def test_a_handler_knows_its_job() -> None:
    before = datetime.now(UTC)
    (done,) = called(lambda _: (job.id, job.attempt, job.deadline, len(job.batch)), b"0", attempt=b"2")
    request_id, attempt, deadline, batch = output(done)
    assert (request_id, attempt, batch) == ("0-1-0", 2, 1)
    late = datetime.fromisoformat(deadline) - before
    assert timedelta(seconds=29) < late < timedelta(seconds=40)


def test_a_batch_knows_its_jobs() -> None:
    def handler(values: list[int]) -> list[str]:
        with pytest.raises(RuntimeError, match=r"job\.batch"):
            _ = job.id
        assert job.deadline > datetime.now(UTC)
        return [one.id for one in job.batch]

    done = called(handler, b"1", b'"x"', b"3", batch=8)
    assert (output(done[0]), output(done[2])) == ("0-1-0", "0-1-2")


def test_nobody_else_has_a_job() -> None:
    with pytest.raises(RuntimeError, match="only while a handler runs"):
        _ = job.id


def test_failures_are_logged_with_their_job() -> None:
    with capture_logs() as lines:
        called(raising(ValueError("no luck")), b"0")
    (line,) = lines
    assert (line["event"], line["request_id"], line["attempt"]) == ("handler failed", "0-1-0", 1)
    assert line["exception"].endswith("ValueError: no luck")


def test_a_handler_may_not_end_the_process() -> None:
    (done,) = called(lambda _: sys.exit(), b"0")
    assert problem(done)[0] == "retry"
