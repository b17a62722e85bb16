"""Each step once: predict what it does, run it, and compare every job."""

from __future__ import annotations

from typing import Any

from model.ledger import MAX_ATTEMPTS, MAX_BACKLOG, MAX_CRASHES, Expected, Handle, Job, Place, Worker
from model.machine import WORKERS, Machine

from coordinator.core import keys, names, steps
from coordinator.core.records import Problem, decode_record
from coordinator.core.steps import Failure, Submission

Offers = dict[str, tuple[int, int]]
"""Per model capacity and window."""


class Actions(Machine):
    """What may happen. The rules say when it does."""

    def __init__(self) -> None:
        super().__init__()
        self.submissions: list[Submission] = []

    # Producers

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

    def submit_again(self, pick: int) -> None:
        job = self.submissions[pick % len(self.submissions)]
        (receipt,) = self.do(self.field.submit(job, max_backlog=MAX_BACKLOG))
        assert receipt[:2] == (job.request_id, "duplicate")
        self.compare({})

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

    def fall_due(self) -> None:
        self.do(self.field.fall_due())
        self.ledger.due = {seen.entry for seen in self.ledger.stream("parked").values()}

    def expire(self, model: str, lane: str) -> None:
        stream = self.ledger.stream(f"jobs:{model}:{lane}")
        expected: Expected = {i: "expired" for i, seen in stream.items() if self.ledger.expires(i, seen.attempt)}
        answer = self.do(steps.expire(self.partition, model, lane, lifetime_ms=3_600_000))
        assert answer == (len(expected), "")
        self.compare(expected)

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

    def rouse(self) -> None:
        self.do(steps.rouse(self.partition))
        self.compare({})

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

    def drain(self, name: str) -> None:
        who = self.ledger.workers.get(name)
        assert self.do(steps.drain(self.partition, name)) == (who is not None)
        if who is not None:
            who.state = "draining" if who.state == "live" else who.state
            who.serving.clear()
        self.compare({})

    def end_lease(self, name: str) -> None:
        if name in self.ledger.workers:
            self.do(self.field.end_lease(name))
            self.ledger.workers[name].leased = False

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

    def complete(self, handle: Handle, output: int, large: bool) -> None:
        request_id = handle.job.request_id
        job = self.ledger.jobs[request_id]
        done = handle.job.done(output, (b"i" if job.blob else b"") + (b"o" if large else b""))
        (answer,) = self.do(self.field.complete(done, worker=handle.worker, model=handle.model, together=True))
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

    def fail(self, handle: Handle, kind: str, delayed: bool) -> None:
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

    def run_for_too_long(self, handle: Handle) -> None:
        if self.ledger.holds(handle):
            self.do(self.field.let_run(handle.job, 60_000, handle.worker, handle.model))
            self.ledger.overdue.add((f"inbox:{handle.worker}:{handle.model}", handle.job.entry.decode()))

    def held(self, name: str, model: str) -> None:
        mine = [handle for handle in self.ledger.handles if (handle.worker, handle.model) == (name, model)]
        lost = self.do(steps.held(self.partition, name, model, [handle.job.entry for handle in mine]))
        assert lost == [handle.job.entry for handle in mine if not self.ledger.holds(handle)]

    def mark(self, handle: Handle, started: bool) -> None:
        """A worker marks a job that it has read and not started, or one that it starts now."""
        inbox = keys.inbox(0, handle.worker, handle.model)
        if self.do(self.redis.exists(inbox)):
            claim = self.redis.xclaim(
                inbox,
                keys.INBOX_GROUP,
                handle.worker,
                0,
                [handle.job.entry],
                retrycount=int(started),
                justid=True,
            )
            assert bool(self.do(claim)) == self.ledger.holds(handle)
        if self.ledger.holds(handle):
            place = (f"inbox:{handle.worker}:{handle.model}", handle.job.entry.decode())
            self.ledger.overdue.discard(place)
            (self.ledger.unstarted.discard if started else self.ledger.unstarted.add)(place)
        self.compare({})

    def handle(self, pick: int) -> Handle:
        """Some job that some worker read at some time; mostly one that it still has."""
        handles = self.ledger.handles
        held = self.in_work()
        return held[pick % len(held)] if held and pick % 3 else handles[pick % len(handles)]

    def in_work(self) -> list[Handle]:
        """All that workers have read and not lost."""
        return [handle for handle in self.ledger.handles if self.ledger.holds(handle)]

    # Operators

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

    def remove_dead(self, pick: int) -> None:
        if self.ledger.dead:
            request_id = sorted(self.ledger.dead)[pick % len(self.ledger.dead)]
            assert self.do(steps.remove_dead(self.partition, request_id))
            self.ledger.dead.discard(request_id)
            self.compare({})

    def prune_dead(self, keep: int) -> None:
        oldest = sorted(self.ledger.dead, key=lambda i: _order(self.ledger.now.dead[i]))
        removed = self.do(steps.prune_dead(self.partition, retention_ms=3_600_000, max_dead=keep))
        assert removed == max(0, len(oldest) - keep)
        self.ledger.dead -= set(oldest[:removed])
        self.compare({})


def _order(entry: str) -> tuple[int, int]:
    ms, _, sequence = entry.partition("-")
    return int(ms), int(sequence)
