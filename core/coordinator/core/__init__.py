"""The contract that all processes keep through Redis. This room imports no other.

What the system believes, in one page:

**A job is always in exactly one place.** First it is an entry of a jobs stream (a lane of its model), then of one worker's
inbox stream, perhaps of the parked stream while a retry waits; in the end it is a final record, and if it failed also a
dead letter. Every arrow between two places is one Lua script, so nobody ever sees a job in two places or in none, whatever
process dies in between. One script, one file (`lua/<verb>.lua`), one typed function (`steps.py`).

**Who has the entry has the job.** A worker may write an outcome only by acknowledging the very inbox entry that it was
given. Taking a job away means removing that entry, so a worker that lost its job can't overwrite, acknowledge or keep it;
it is told that it is stale. There is no other lock and no token.

**A worker has a lease, a job has a time limit.** The lease says that the worker lives; it is renewed by a process apart from
the handler, so a long computation costs nothing. The time limit says how long one run of one job may take. A job is given
to somebody else when its worker's lease is over, or when its own time limit is, and for no other reason.

**Room is counted, not remembered.** What a worker has outstanding is the length of its inbox, because finished entries are
deleted. There is no counter that could drift.

**Time is Redis's.** Every time that is stored or compared comes from the server's TIME inside a step. The clocks of hosts
are never compared.

**Everything is sent again until it is answered.** Steps are idempotent by request id or by entry id; the library's own
retries are off.

`keys` names every key, `records` says what is in them, `steps` is all that changes them, `submitter` and `waiting` make the
first and the last step cheap for thousands of callers, `membership` is a worker's way in and out, `views` only looks.
"""
