"""The judge of histories: it accepts what is right, and each kind of wrong is found."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest
from faults.history import Accepted, History, Sight, judge
from harness.system import Execution

from coordinator.core.records import CANCELLED, EXPIRED, FAILED, SUCCEEDED


def _right() -> History:
    """Four jobs: one that is tried again after a crash, one that fails, one that is cancelled, one that expires."""
    return History(
        accepted=[
            Accepted(1.0, 1, "a"),
            Accepted(1.1, 1, "a"),
            Accepted(1.2, 2, "b", "failing", frozenset((FAILED,)), max_attempts=2),
            Accepted(1.3, 3, "c", "cancelled", frozenset((SUCCEEDED, CANCELLED))),
            Accepted(1.4, 4, "d", "deadline", frozenset((SUCCEEDED, EXPIRED))),
        ],
        sights=[
            Sight(2.0, "a", "queued"),
            Sight(3.0, "a", "running", 1, "w1"),
            Sight(5.0, "a", SUCCEEDED, 2, "w2", 4.9, 1, "w2-0"),
            Sight(6.0, "a", SUCCEEDED, 2, "w2", 4.9, 1, "w2-0"),
        ],
        ends={
            "a": Sight(9.0, "a", SUCCEEDED, 2, "w2", 4.9, 1, "w2-0"),
            "b": Sight(9.0, "b", FAILED, 2, "w1", 5.0, error="exception"),
            "c": Sight(9.0, "c", CANCELLED, 1, "w1", 5.0),
            "d": Sight(9.0, "d", EXPIRED, 0, "", 5.0),
        },
        executions=[
            Execution(2.5, "start", "a", 1, "w1", 10, "w1-0", 1),
            Execution(4.5, "start", "a", 2, "w2", 20, "w2-0", 1),
            Execution(4.6, "done", "a", 2, "w2", 20, "w2-0", 1),
            Execution(2.6, "start", "b", 1, "w1", 10, "w1-1", 2),
            Execution(2.7, "raised", "b", 1, "w1", 10, "w1-1", 2),
            Execution(3.6, "start", "b", 2, "w1", 11, "w1-2", 2),
            Execution(3.7, "raised", "b", 2, "w1", 11, "w1-2", 2),
            Execution(3.8, "start", "c", 1, "w1", 11, "w1-3", 3),
        ],
    )


def _lose(history: History) -> None:
    del history.ends["a"]


def _never_end(history: History) -> None:
    history.ends["a"] = Sight(9.0, "a", "running", 2, "w2")


def _deny(history: History) -> None:
    history.missing.append((4.0, "a"))


def _change(history: History) -> None:
    history.sights.append(Sight(7.0, "a", SUCCEEDED, 3, "w1", 6.9, 1, "w2-0"))


def _revive(history: History) -> None:
    history.sights.append(Sight(7.0, "c", CANCELLED, 1, "w1", 5.0))
    history.sights.append(Sight(7.5, "c", "queued"))


def _run_on(history: History) -> None:
    history.executions.append(Execution(5.5, "start", "a", 3, "w1", 12, "w1-9", 1))


def _take_from_the_wrong_one(history: History) -> None:
    """The output of attempt 1, whose worker had lost it, under the name of attempt 2."""
    history.executions.append(Execution(2.8, "done", "a", 1, "w1", 10, "w1-0", 1))
    for sight in (*history.sights[2:], history.ends["a"]):
        msgspec.structs.force_setattr(sight, "token", "w1-0")


def _make_up(history: History) -> None:
    history.executions = [e for e in history.executions if e.id != "a"]


def _mix_up(history: History) -> None:
    for sight in (*history.sights[2:], history.ends["a"]):
        msgspec.structs.force_setattr(sight, "n", 2)


def _run_the_same_attempt_twice(history: History) -> None:
    history.executions.append(Execution(2.9, "start", "a", 1, "w2", 20, "w2-9", 1))


def _try_too_often(history: History) -> None:
    history.ends["b"] = Sight(9.0, "b", FAILED, 3, "w1", 5.0, error="exception")


def _crash_too_often(history: History) -> None:
    history.ends["b"] = Sight(9.0, "b", FAILED, 4, "w1", 5.0, error="poison", crashed=("w1", "w2", "w1", "w2"))


def _slander(history: History) -> None:
    history.ends["b"] = Sight(9.0, "b", FAILED, 2, "w1", 5.0, error="poison", crashed=("w1", "w2"))


def _fail_without_reason(history: History) -> None:
    history.sights.clear()
    history.ends["a"] = Sight(9.0, "a", FAILED, 2, "w2", 4.9, error="timeout")


def _cancel_unasked(history: History) -> None:
    history.sights.clear()
    history.ends["a"] = Sight(9.0, "a", CANCELLED, 2, "w2", 4.9)


def _run_what_expired(history: History) -> None:
    history.executions.append(Execution(4.0, "start", "d", 1, "w1", 11, "w1-8", 4))


def _double(history: History) -> None:
    history.executions.append(Execution(4.0, "start", "a2", 1, "w1", 11, "w1-8", 1))


def _double_receipt(history: History) -> None:
    history.accepted[1] = replace(history.accepted[1], n=7)


def _leave(history: History) -> None:
    history.remains.append("a lies in jobs:m:normal 1-1")


def test_a_right_history_is_accepted() -> None:
    assert judge(_right()) == []
    assert _right().run_twice == 1


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_lose, "lost: a"),
        (_never_end, "lost: a"),
        (_deny, "lost: a"),
        (_change, "changed: a"),
        (_revive, "changed: c"),
        (_run_on, "stale: a"),
        (_take_from_the_wrong_one, "stale: a"),
        (_make_up, "made up: a"),
        (_mix_up, "wrong: a"),
        (_run_the_same_attempt_twice, "twice: attempt 1 of a"),
        (_try_too_often, "limit: b"),
        (_crash_too_often, "limit: b"),
        (_slander, "limit: b"),
        (_fail_without_reason, "wrong: a"),
        (_cancel_unasked, "wrong: a"),
        (_run_what_expired, "wrong: d"),
        (_double, "doubled: submission 1"),
        (_double_receipt, "doubled: a"),
        (_leave, "left in Redis: a"),
    ],
)
def test_a_wrong_history_is_rejected(harm: Callable[[History], None], said: str) -> None:
    history = copy.deepcopy(_right())
    harm(history)
    found = judge(history)
    assert any(violation.startswith(said) for violation in found), found


def test_what_a_stopping_worker_handed_back_may_run_again() -> None:
    history = _right()
    _run_the_same_attempt_twice(history)
    history.asked_to_stop.add(10)
    assert judge(history) == []
