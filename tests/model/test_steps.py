"""Any interleaving of the steps, on real Redis, against a plain Python model: after every single step each job is in
exactly one place, in the right one, and no outcome ever changes.

No time passes: leases, delays and time limits are moved into the past instead. HYPOTHESIS_PROFILE=long looks longer.
"""

from __future__ import annotations

from typing import Any

import pytest
from harness.redis import RedisServer
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test
from model.ledger import MAX_ATTEMPTS, MAX_BACKLOG, MAX_CRASHES, Expected, Handle, Job, Place, Worker
from model.machine import MODELS, WORKERS, Machine

from coordinator.core import keys, names, steps
from coordinator.core.records import Problem, decode_record
from coordinator.core.steps import Failure, Submission

models = st.sampled_from(MODELS)
workers = st.sampled_from(WORKERS)
picks = st.integers(0, 1000)
incarnations = st.sampled_from(["1", "2"])
offers = st.dictionaries(models, st.sampled_from([(1, 1), (1, 2), (2, 4), (3, 3)]), min_size=1)
counts = st.sampled_from([1, 2, 100])
Offers = dict[str, tuple[int, int]]


class Steps(Machine):
    """One rule per step: it predicts what the step does, runs it, and compares every job."""

    submissions: list[Submission]

    @initialize(
        a=offers, b=offers, some=st.lists(st.tuples(models, st.booleans(), st.booleans(), st.booleans()), min_size=2)
    )
    def begin(self, a: Offers, b: Offers, some: list[tuple[str, bool, bool, bool]]) -> None:
        """Two workers, and some jobs in their hands: from here on everything is interesting."""
        self.submissions = []
        self.register("a", "1", {"m": (2, 4), **a})
        self.register("b", "1", b)
        for model, late, delayed, blob in some[:8]:
            self.submit(model, "normal", late, delayed, blob, None, None, 0)
        for model in MODELS:
            self.flow(model, 100)

    # Several steps at once, as they mostly come: without them most examples would not get far

    @rule(model=models, count=counts)
    def flow(self, model: str, count: int) -> None:
        """What waits is assigned and read."""
        self.dispatch(model)
        for name in WORKERS:
            self.take(name, model, count)

    @rule(name=workers, count=counts, again=st.booleans())
    def die(self, name: str, count: int, again: bool) -> None:
        """A worker dies, some or all that it held is taken back, and perhaps it starts again."""
        who = self.ledger.workers.get(name)
        self.end_lease(name)
        self.reclaim(name, False, count)
        if again and who is not None:
            self.register(name, "2" if who.incarnation == "1" else "1", dict(who.offers))

    @rule(delayed=st.booleans(), pick=picks)
    def fail_all(self, delayed: bool, pick: int) -> None:
        """Everything in work fails, and what waits for its retry falls due."""
        for handle in [handle for handle in self.ledger.handles if self.ledger.holds(handle)][: 1 + pick % 4]:
            self._fail(handle, "retry", delayed)
        self.fall_due()
        self.promote(100)

    # Producers

    @rule(
        model=models,
        lane=st.sampled_from(keys.PRIORITIES),
        late=st.booleans(),
        delayed=st.booleans(),
        blob=st.booleans(),
        allowed=st.sampled_from([None, 1, 3]),
        key=st.sampled_from([None, None, None, "k1", "k2"]),
        drift=st.sampled_from([0, 0, -1, 1]),
    )
    def submit(
        self,
        model: str,
        lane: str,
        late: bool,
        delayed: bool,
        blob: bool,
        allowed: int | None,
        key: str | None,
        drift: int,
    ) -> None:
        ledger = self.ledger
        now = self.do(self.field.now_ms()) + drift * 1000 * keys.BUCKET_SECONDS
        options: dict[str, Any] = {"ttl": -1} if late else {}
        if delayed:
            options["delay"] = 3_600_000
        print_of = f"{model}{lane}{late}{delayed}{blob}{allowed}"
        if key is not None:
            options |= {"key": print_of, "request_id": names.request_id_from(key.encode() * 8, 0, now)}
        job = self.do(
            self.field.submission(
                model,
                lane,
                blob=b'"blob"' if blob else b"",
                head=f'"max_attempts":{allowed}' if allowed else "",
                **options,
            )
        )
        (receipt,) = self.do(self.field.submit(job, max_backlog=MAX_BACKLOG))
        known = ledger.keys.get(key) if key is not None else None
        if known is not None:
            same = ledger.jobs[known].key == print_of
            assert receipt[:2] == (known, "duplicate" if same else "conflict")
            return self.compare({})
        if model not in ledger.known_models:
            assert receipt.outcome == "unknown"
            return self.compare({})
        if len(ledger.stream("parked") if delayed else ledger.waiting(model)) >= MAX_BACKLOG:
            assert receipt.outcome == "full"
            return self.compare({})
        assert receipt[:2] == (job.request_id, "accepted")
        if key is not None:
            ledger.keys[key] = job.request_id
        self.submissions.append(job)
        ledger.jobs[job.request_id] = Job(model, lane, late, blob, allowed or MAX_ATTEMPTS, options.get("key"))
        return self.compare({job.request_id: Place(("parked",) if delayed else (f"jobs:{model}:{lane}",), 1)})

    @precondition(lambda self: self.submissions)
    @rule(pick=picks)
    def submit_again(self, pick: int) -> None:
        job = self.submissions[pick % len(self.submissions)]
        (receipt,) = self.do(self.field.submit(job, max_backlog=MAX_BACKLOG))
        assert receipt[:2] == (job.request_id, "duplicate")
        self.compare({})

    @precondition(lambda self: self.ledger.jobs)
    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        request_id = list(self.ledger.jobs)[pick % len(self.ledger.jobs)]
        answer = self.do(steps.cancel(self.partition, request_id))
        final, seen = self.ledger.jobs[request_id].final, self.ledger.now.jobs.get(request_id)
        if final is not None:
            status = decode_record(final).status
            assert answer == ("cancelled" if status == "cancelled" else "final", status)
            return self.compare({})
        assert seen is not None
        if seen.stream.startswith("inbox:"):
            assert answer == ("cancelled", "running" if seen.read else "assigned")
        else:
            assert answer == ("cancelled", "retrying" if seen.attempt > 1 else "queued")
        return self.compare({request_id: "cancelled"})

    # The dispatcher

    @rule(model=models, some=st.lists(workers, unique=True), batch=st.sampled_from([1, 2, 10]))
    def assign(self, model: str, some: list[str], batch: int) -> None:
        expected, moved, expired = self.ledger.after_assign(model, some, batch)
        room = {worker: self.ledger.room(model, worker) for worker in some}
        waiting = len(self.ledger.waiting(model))
        answer = self.do(steps.assign(self.partition, model, some, batch=batch, lifetime_ms=3_600_000))
        assert answer[:2] == (moved, expired)
        if moved + expired == waiting:
            assert answer.state == "empty"
        else:
            assert answer.state == ("starved" if moved == sum(room.values()) else "more")
        self.compare(expected)
        for worker, places in room.items():
            assert self.ledger.room(model, worker) >= 0
            given = sum(
                seen.stream == f"inbox:{worker}:{model}" for i, seen in self.ledger.now.jobs.items() if i in expected
            )
            assert given <= places
            # Nobody gets two more than another one who had room for it.
            for other, others in room.items():
                theirs = sum(
                    seen.stream == f"inbox:{other}:{model}" for i, seen in self.ledger.now.jobs.items() if i in expected
                )
                assert given <= theirs + 1 or theirs == others

    @rule(model=models)
    def dispatch(self, model: str) -> None:
        """As the assigner does when a model is woken."""
        self.do(self.redis.zrem(keys.wake(0), model))
        while True:
            served = self.ledger.served(model)
            expected, _, _ = self.ledger.after_assign(model, served, 100)
            answer = self.do(steps.assign(self.partition, model, served, batch=100, lifetime_ms=3_600_000))
            found = self.look()
            if answer.state == "more":
                found = found._replace(wake=found.wake | {model})
            self.compare(expected, found)
            if answer.state != "more":
                return

    @rule(model=models, stuck=st.booleans(), count=counts)
    def rebalance(self, model: str, stuck: bool, count: int) -> None:
        ledger = self.ledger
        before = {worker: ledger.inbox(worker, model) for worker in WORKERS}
        answer = self.do(
            steps.rebalance(
                self.partition, model, ledger.served(model), count=count, stuck_after_ms=-1 if stuck else 1 << 40
            )
        )
        found = self.look()
        able = {w for w in ledger.served(model) if ledger.workers[w].leased}
        expected: Expected = {}
        for worker, inbox in before.items():
            for request_id, seen in inbox.items():
                if found.jobs[request_id] != seen:
                    assert not seen.read
                    assert worker in able
                    others = tuple(f"inbox:{other}:{model}" for other in able - {worker})
                    expected[request_id] = Place(others, seen.attempt, seen.crashed)
        assert answer == (len(expected), sum(len(before[worker]) for worker in able))
        self.compare(expected, found)
        if len(expected) < count:
            self._nobody_waits_beside_a_free_slot(model, able)

    def _nobody_waits_beside_a_free_slot(self, model: str, able: set[str]) -> None:
        inboxes = {worker: self.ledger.inbox(worker, model) for worker in able}
        capacity = {worker: self.ledger.workers[worker].offers[model][0] for worker in able}
        unread = {worker: sum(not seen.read for seen in inbox.values()) for worker, inbox in inboxes.items()}
        free = [w for w in able if not unread[w] and len(inboxes[w]) < capacity[w]]
        excess = [w for w in able if unread[w] and len(inboxes[w]) > capacity[w]]
        assert not (free and excess)

    @rule(name=workers, model=models)
    def overdue(self, name: str, model: str) -> None:
        ledger = self.ledger
        who = ledger.workers.get(name)
        taking = who is not None and model in who.serving
        expected: Expected = {}
        for request_id, seen in ledger.inbox(name, model).items():
            if (seen.stream, seen.entry) in ledger.overdue:
                dead = seen.attempt - len(seen.crashed) >= ledger.jobs[request_id].allowed
                retry = ledger.into_lane(request_id, "retry", seen.attempt + 1, seen.crashed)
                expected[request_id] = "failed" if dead else retry
            elif not seen.read and (not taking or ledger.expires(request_id, seen.attempt)):
                expected[request_id] = ledger.back(request_id, seen.attempt, seen.crashed)
        answer = self.do(self.field.overdue(name, model, grace_ms=-1, max_attempts=MAX_ATTEMPTS))
        dead_ones = sum(place == "failed" for place in expected.values())
        assert answer == (len(expected) - dead_ones, dead_ones, "")
        self.compare(expected)

    @rule(count=counts)
    def promote(self, count: int) -> None:
        ledger = self.ledger
        due = [i for i, seen in ledger.stream("parked").items() if seen.entry in ledger.due]
        due.sort(key=lambda i: ledger.now.jobs[i].entry)
        expected: Expected = {}
        for request_id in due[:count]:
            seen = ledger.now.jobs[request_id]
            lane = "retry" if seen.attempt > 1 else ledger.jobs[request_id].lane
            late = ledger.expires(request_id, seen.attempt)
            expected[request_id] = "expired" if late else ledger.into_lane(request_id, lane, seen.attempt, seen.crashed)
        assert self.do(self.field.promote(count=count)).moved == len(expected)
        self.compare(expected)

    @rule()
    def fall_due(self) -> None:
        self.do(self.field.fall_due())
        self.ledger.due = {seen.entry for seen in self.ledger.stream("parked").values()}

    @rule(model=models, lane=st.sampled_from(keys.LANES))
    def expire(self, model: str, lane: str) -> None:
        stream = self.ledger.stream(f"jobs:{model}:{lane}")
        expected: Expected = {i: "expired" for i, seen in stream.items() if self.ledger.expires(i, seen.attempt)}
        answer = self.do(steps.expire(self.partition, model, lane, lifetime_ms=3_600_000))
        assert answer == (len(expected), "")
        self.compare(expected)

    @rule(name=workers, retire=st.booleans(), count=counts)
    def reclaim(self, name: str, retire: bool, count: int) -> None:
        expected, some, number, more = self.ledger.after_reclaim(name, retire, count)
        answer = self.do(self.field.reclaim(name, retire=retire, count=count, max_crashes=MAX_CRASHES))
        assert answer.more == more
        found = self.look()
        also = {i: place for i, place in some.items() if found.jobs.get(i) != self.ledger.now.jobs[i]}
        assert len(also) == min(number, len(some))
        expected |= also
        dead = sum(place == "failed" for place in expected.values())
        assert answer[:2] == (len(expected) - dead, dead)
        self.compare(expected, found)

    @rule()
    def rouse(self) -> None:
        self.do(steps.rouse(self.partition))
        self.compare({})

    @rule()
    def forget(self) -> None:
        gone = [
            name
            for name, who in self.ledger.workers.items()
            if not who.leased and not any(self.ledger.inbox(name, model) for model in who.offers)
        ]
        assert self.do(steps.forget(self.partition, retention_ms=0)) == len(gone)
        for name in gone:
            del self.ledger.workers[name]
        self.compare({})

    # Workers

    @rule(name=workers, incarnation=incarnations, offer=offers)
    def register(self, name: str, incarnation: str, offer: Offers) -> None:
        ledger = self.ledger
        who = ledger.workers.get(name)
        fresh = True
        if who is not None:
            alive = who.incarnation == incarnation and who.state in ("live", "draining")
            fresh = not (alive and set(who.offers) <= set(offer))
            held = any(ledger.inbox(name, model) for model in who.offers)
            if fresh and held:
                who.blameless = alive or (who.blameless and who.incarnation == incarnation)
                who.state, who.incarnation = "replaced", incarnation
                who.serving.clear()
        entered = self.do(
            self.field.register(name, incarnation, models={model: f"{c}:{w}" for model, (c, w) in offer.items()})
        )
        assert entered == (who is None or who.state != "replaced" or not held)
        if entered:
            ledger.workers[name] = Worker("live", incarnation, True, False, dict(offer), set(offer))
            ledger.known_models |= set(offer)
        self.compare({})

    @rule(name=workers, incarnation=st.sampled_from(["1", "2", ""]), taking=st.booleans())
    def heartbeat(self, name: str, incarnation: str, taking: bool) -> None:
        who = self.ledger.workers.get(name)
        answer = self.do(steps.heartbeat(self.partition, name, incarnation, lease_ms=3_600_000, taking=taking))
        if who is not None and incarnation and who.incarnation != incarnation:
            assert answer == "superseded"
        elif who is None or who.state not in ("live", "draining"):
            assert answer == "unknown"
        else:
            assert answer == who.state
            who.leased = True
            if who.state == "live":
                who.serving = set(who.offers) if taking else set()
        self.compare({})

    @rule(name=workers)
    def drain(self, name: str) -> None:
        who = self.ledger.workers.get(name)
        assert self.do(steps.drain(self.partition, name)) == (who is not None)
        if who is not None:
            who.state = "draining" if who.state == "live" else who.state
            who.serving.clear()
        self.compare({})

    @rule(name=workers)
    def end_lease(self, name: str) -> None:
        if name in self.ledger.workers:
            self.do(self.field.end_lease(name))
            self.ledger.workers[name].leased = False

    @rule(name=workers, model=models, count=counts)
    def take(self, name: str, model: str, count: int) -> None:
        """A worker reads; nobody asks whether it is still the one that it was."""
        inbox = self.ledger.inbox(name, model)
        unread = [i for i, seen in inbox.items() if not seen.read][:count]
        if not self.do(self.redis.exists(keys.inbox(0, name, model))):
            assert not inbox
            return
        jobs = self.do(self.field.take(name, model, count))
        assert [job.request_id for job in jobs] == unread
        for job in jobs:
            assert (job.attempt, job.crashed) == (inbox[job.request_id].attempt, inbox[job.request_id].crashed)
        self.ledger.handles += [Handle(name, model, job) for job in jobs]
        self.compare({i: Place((inbox[i].stream,), inbox[i].attempt, inbox[i].crashed, read=True) for i in unread})

    @precondition(lambda self: self.ledger.handles)
    @rule(pick=picks, output=st.sampled_from([0, 1]), large=st.booleans())
    def complete(self, pick: int, output: int, large: bool) -> None:
        handle = self._handle(pick)
        request_id = handle.job.request_id
        job = self.ledger.jobs[request_id]
        done = handle.job.done(output, (b"i" if job.blob else b"") + (b"o" if large else b""))
        (answer,) = self.do(self.field.complete(done, worker=handle.worker, model=handle.model))
        if self.ledger.holds(handle):
            assert answer == 1
            return self.compare({request_id: "succeeded"})
        mine = (
            job.final is not None
            and job.final.endswith(done.tail)
            and decode_record(job.final).worker_id == handle.worker
        )
        assert answer == (2 if mine else 0)
        return self.compare({})

    @precondition(lambda self: self.ledger.handles)
    @rule(pick=picks, kind=st.sampled_from(["retry", "retry", "final", "release", "expired"]), delayed=st.booleans())
    def fail(self, pick: int, kind: str, delayed: bool) -> None:
        self._fail(self._handle(pick), kind, delayed)

    def _fail(self, handle: Handle, kind: str, delayed: bool) -> None:
        failure = Failure(handle.job.entry, kind, 3_000_000 if delayed else 0, Problem("exception", 'no "luck"'))
        held = self.ledger.holds(handle)
        expected: Expected = {}
        if held:
            expected[handle.job.request_id] = self.ledger.after_failure(handle, kind, delayed)
        (answer,) = self.do(
            self.field.fail(failure, worker=handle.worker, model=handle.model, max_attempts=MAX_ATTEMPTS)
        )
        if not held:
            assert answer == "stale"
        self.compare(expected)

    @precondition(lambda self: self.ledger.handles)
    @rule(pick=picks)
    def run_for_too_long(self, pick: int) -> None:
        handle = self._handle(pick)
        if self.ledger.holds(handle):
            self.do(self.field.let_run(handle.job, 60_000, handle.worker, handle.model))
            self.ledger.overdue.add((f"inbox:{handle.worker}:{handle.model}", handle.job.entry.decode()))

    @rule(name=workers, model=models)
    def held(self, name: str, model: str) -> None:
        mine = [handle for handle in self.ledger.handles if (handle.worker, handle.model) == (name, model)]
        lost = self.do(steps.held(self.partition, name, model, [handle.job.entry for handle in mine]))
        assert lost == [handle.job.entry for handle in mine if not self.ledger.holds(handle)]

    def _handle(self, pick: int) -> Handle:
        """Some job that some worker read at some time; mostly one that it still has."""
        handles = self.ledger.handles
        held = [handle for handle in handles if self.ledger.holds(handle)]
        return held[pick % len(held)] if held and pick % 3 else handles[pick % len(handles)]

    # Operators

    @precondition(lambda self: self.ledger.jobs)
    @rule(pick=picks)
    def retry_dead(self, pick: int) -> None:
        ledger = self.ledger
        pool = sorted(ledger.dead) or list(ledger.jobs)
        request_id = pool[pick % len(pool)]
        new_id = self.field.request_id(self.do(self.field.now_ms()))
        answer = self.do(
            steps.retry_dead(self.partition, request_id, new_id, lifetime_ms=3_600_000, retention_ms=3_600_000)
        )
        old = ledger.jobs[request_id]
        if request_id not in ledger.dead:
            assert answer == (decode_record(old.final).retried_as if old.final else None)
            return self.compare({})
        assert answer == new_id
        assert old.final is not None
        ledger.dead.discard(request_id)
        ledger.jobs[new_id] = Job(old.model, old.lane, False, old.blob, old.allowed, old.key)
        old.final = old.final.replace(b'"failed"', b'"failed","retried_as":"%b"' % new_id.encode(), 1)
        ledger.now.records[request_id] = old.final
        return self.compare({new_id: Place((f"jobs:{old.model}:{old.lane}",), 1)})

    @rule(pick=picks)
    def remove_dead(self, pick: int) -> None:
        if self.ledger.dead:
            request_id = sorted(self.ledger.dead)[pick % len(self.ledger.dead)]
            assert self.do(steps.remove_dead(self.partition, request_id))
            self.ledger.dead.discard(request_id)
            self.compare({})

    @rule(keep=st.integers(0, 2))
    def prune_dead(self, keep: int) -> None:
        oldest = sorted(self.ledger.dead, key=lambda i: _order(self.ledger.now.dead[i]))
        removed = self.do(steps.prune_dead(self.partition, retention_ms=3_600_000, max_dead=keep))
        assert removed == max(0, len(oldest) - keep)
        self.ledger.dead -= set(oldest[:removed])
        self.compare({})


def _order(entry: str) -> tuple[int, int]:
    ms, _, sequence = entry.partition("-")
    return int(ms), int(sequence)


@pytest.mark.timeout(3600)
def test_each_job_is_in_exactly_one_place_whatever_happens(redis_server: RedisServer) -> None:
    class Here(Steps):
        url = redis_server.url(9)

    run_state_machine_as_test(Here)
