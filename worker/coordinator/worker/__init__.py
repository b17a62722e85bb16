"""The worker: runs an ML engineer's functions, and knows everything about Redis so that they need not.

    from coordinator.worker import Worker

    worker = Worker()

    @worker.model("digits", capacity=8, batch=32, batch_wait=0.005, timeout=30)
    def predict(images: list[list[float]]) -> list[int]: ...

`coordinator worker my_module:worker --coordinator URL` runs it. What a handler may do:

- take one input and return one output, or (`batch` above 1) take a list and return a list of the same length;
- be a plain function, which is called in a thread, or an `async` one, which runs in the event loop;
- annotate its parameter: what does not fit the type fails that job for good, and the handler never sees it. `bytes` or
  `msgspec.Raw` gets the JSON text as it came;
- raise `Retry(after=…)` to be called again later, `Fail(…)` to give the job up for good; in a batch, an exception in a
  job's place fails only that job. Any other exception uses up one attempt of the job, and nothing more: it never takes
  the worker down, not even `sys.exit()`;
- look at `job`: its id, its attempt, its deadline; in a batch at `job.batch`, which has those of each.

How the process is built: a `Service` per model takes deliveries from its `Inbox`, makes calls of them, has them run by
threads or tasks, and puts what they return into an `Outbox`, which tells Redis in few large steps. A `Lease` keeps the
registration alive by way of a process apart, the heart, so that a handler may compute for as long as its time limit
allows. The `Gate` lets a job on which a worker has died before run only alone, so that the next crash has one culprit.
`Runtime` is the composition root.
"""

from coordinator.worker.context import job
from coordinator.worker.definition import Worker
from coordinator.worker.outcomes import Fail, Retry

__all__ = ["Fail", "Retry", "Worker", "job"]
