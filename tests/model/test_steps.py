"""Any interleaving of the steps, on real Redis, against a plain Python model: after every single step each job is in
exactly one place, in the right one, and no outcome ever changes.

No time passes: leases, delays and time limits are moved into the past instead. HYPOTHESIS_PROFILE=long looks longer.
"""

from __future__ import annotations

import pytest
from harness.redis import RedisServer
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test
from model.actions import Actions, Offers
from model.machine import MODELS, WORKERS

from coordinator.core import keys

Kind = tuple[str, bool, bool, bool, int | None]
kinds = st.sampled_from(
    [
        ("normal", False, False, False, None),
        ("normal", False, False, True, None),
        ("normal", False, False, False, 1),
        ("high", False, False, False, 3),
        ("low", False, False, False, None),
        ("normal", False, True, True, None),
        ("high", True, False, True, None),
        ("low", True, True, False, None),
    ]
)
"""Lane, late, delayed, large input, attempts."""
models = st.sampled_from(MODELS)
workers = st.sampled_from(WORKERS)
picks = st.integers(0, 1000)
rarely = st.sampled_from([False, False, False, True])
incarnations = st.sampled_from(["1", "2"])
offers = st.dictionaries(models, st.sampled_from([(1, 1), (1, 2), (2, 3), (3, 3)]), min_size=1)
counts = st.sampled_from([100, 1, 2])


class Steps(Actions):
    """Few rules, most of them of several steps, as steps mostly come: else few examples would get far."""

    @initialize(a=offers, b=offers, kinds=st.lists(kinds, min_size=6, max_size=8))
    def begin(self, a: Offers, b: Offers, kinds: list[Kind]) -> None:
        """Some workers, and jobs in their hands: from here on everything is interesting."""
        self.register("a", "1", {"m": (1, 2), "x": (2, 4)})
        self.register("b", "1", a)
        self.register("c", "1", b)
        self.load("m", kinds[:4])
        self.load("x", kinds[4:])

    @rule(model=models, kinds=st.lists(kinds, min_size=2, max_size=4))
    def load(self, model: str, kinds: list[Kind]) -> None:
        """Jobs come, are assigned and read."""
        for lane, late, delayed, blob, allowed in kinds:
            self.submit(model, lane, late, delayed, blob, allowed, None, 0)
        self.flow(model, 100)

    @rule(model=models, count=counts)
    def flow(self, model: str, count: int) -> None:
        """What waits is assigned and read."""
        self.dispatch(model)
        for name in WORKERS:
            self.take(name, model, count)

    @rule(model=models, times=st.integers(1, 3), delayed=st.booleans(), some=st.integers(1, 4))
    def struggle(self, model: str, times: int, delayed: bool, some: int) -> None:
        """Jobs fail, and fail again."""
        for _ in range(times):
            for handle in self.in_work()[:some]:
                self.fail(handle, "retry", delayed)
            self.fall_due()
            self.promote(100)
            self.flow(model, 100)

    @rule(model=models, name=workers, kinds=st.lists(kinds, min_size=2, max_size=4), stuck=rarely, count=counts)
    def pile_up(self, model: str, name: str, kinds: list[Kind], stuck: bool, count: int) -> None:
        """One worker gets it all, reads one, and the others help out."""
        for lane, late, delayed, blob, allowed in kinds:
            self.submit(model, lane, late, delayed, blob, allowed, None, 0)
        self.assign(model, [name], 100)
        self.take(name, model, 1)
        self.rebalance(model, stuck, count)

    @rule(name=workers, count=counts, again=st.booleans(), model=models, waiting=rarely, told=rarely)
    def die(self, name: str, count: int, again: bool, model: str, waiting: bool, told: bool) -> None:
        """A worker dies or leaves, some or all that it held is taken back, and perhaps it starts again."""
        who = self.ledger.workers.get(name)
        for handle in [handle for handle in self.in_work() if waiting and handle.worker == name][:1]:
            self.mark(handle, started=False)
        self.end_lease(name)
        self.dispatch(model)
        self.reclaim(name, told, count)
        if count < 100:
            self.reclaim(name, False, count)
        if again and who is not None:
            self.register(name, "2" if who.incarnation == "1" else "1", dict(who.offers))
        self.flow(model, 100)

    @precondition(lambda self: self.ledger.handles)
    @rule(pick=picks)
    def hang(self, pick: int) -> None:
        """A job runs for too long, and somebody sees that."""
        handle = self.handle(pick)
        self.run_for_too_long(handle)
        self.overdue(handle.worker, handle.model)

    @precondition(lambda self: self.ledger.handles)
    @rule(pick=picks, output=st.sampled_from([0, 1]), large=st.booleans(), twice=rarely)
    def end(self, pick: int, output: int, large: bool, twice: bool) -> None:
        handle = self.handle(pick)
        self.complete(handle, output, large)
        if twice:
            self.complete(handle, output, large)

    @precondition(lambda self: self.ledger.handles)
    @rule(pick=picks, kind=st.sampled_from(["retry", "final", "release", "expired"]), delayed=st.booleans())
    def give_up(self, pick: int, kind: str, delayed: bool) -> None:
        self.fail(self.handle(pick), kind, delayed)

    @precondition(lambda self: self.ledger.handles)
    @rule(pick=picks, started=rarely)
    def wait_its_turn(self, pick: int, started: bool) -> None:
        self.mark(self.handle(pick), started)

    @rule(
        model=models,
        kind=kinds,
        key=st.sampled_from([None, "k1", "k2"]),
        drift=st.sampled_from([0, -1, 1]),
        again=picks,
    )
    def produce(self, model: str, kind: Kind, key: str | None, drift: int, again: int) -> None:
        """A job comes, perhaps with a key that was used before; and another one is sent a second time."""
        self.submit(model, *kind, key, drift)
        if self.submissions:
            self.submit_again(again)

    @rule(pick=picks)
    def call_off(self, pick: int) -> None:
        if self.ledger.jobs:
            self.cancel(pick)
            for model in MODELS:
                self.dispatch(model)

    @rule(model=models, some=st.lists(workers, unique=True), batch=st.sampled_from([10, 1, 2]))
    def deal(self, model: str, some: list[str], batch: int) -> None:
        self.assign(model, some, batch)

    @rule(model=models, stuck=st.booleans(), count=counts)
    def even_out(self, model: str, stuck: bool, count: int) -> None:
        self.rebalance(model, stuck, count)

    @rule(model=models, name=workers, lane=st.sampled_from(keys.LANES), count=counts, due=st.booleans())
    def time_passes(self, model: str, name: str, lane: str, count: int, due: bool) -> None:
        if due:
            self.fall_due()
        self.promote(count)
        self.expire(model, lane)
        self.overdue(name, model)

    @rule(name=workers, retire=st.booleans(), count=counts)
    def take_back(self, name: str, retire: bool, count: int) -> None:
        self.reclaim(name, retire, count)

    @rule(name=workers, incarnation=incarnations, offer=offers)
    def come(self, name: str, incarnation: str, offer: Offers) -> None:
        self.register(name, incarnation, offer)

    @rule(
        name=workers,
        incarnation=st.sampled_from(["", "1", "2"]),
        how=st.sampled_from(["beat", "stand", "drain", "end"]),
        model=models,
    )
    def go_on(self, name: str, incarnation: str, how: str, model: str) -> None:
        if how == "drain":
            self.drain(name)
        elif how == "end":
            self.end_lease(name)
        else:
            self.heartbeat(name, incarnation, how == "beat")
        self.dispatch(model)

    @rule(name=workers, model=models, count=counts)
    def read(self, name: str, model: str, count: int) -> None:
        self.take(name, model, count)

    @rule(pick=picks, how=st.sampled_from(["retry", "retry", "remove", "prune"]))
    def bury(self, pick: int, how: str) -> None:
        if not self.ledger.jobs:
            return
        if how == "retry":
            self.retry_dead(pick)
        elif how == "remove":
            self.remove_dead(pick)
        else:
            self.prune_dead(pick % 3)

    @rule(name=workers, model=models)
    def look_around(self, name: str, model: str) -> None:
        self.rouse()
        self.held(name, model)
        self.forget()


@pytest.mark.timeout(3600)
def test_each_job_is_in_exactly_one_place_whatever_happens(redis_server: RedisServer) -> None:
    class Here(Steps):
        url = redis_server.url(9)

    run_state_machine_as_test(Here)
