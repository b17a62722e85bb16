"""One way to the coordinator: it knows what may be sent again, when, and when to give up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from coordinator.client.errors import Unreachable, problem_of
from coordinator.client.http1 import Connections, NotConnected, Response, origin
from coordinator.core.errors import Refused

DEFAULT_URL: Final = "http://127.0.0.1:8000"
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0


class Transport:
    """Sends requests to one coordinator. Times in seconds.

    `timeout`: for one try, besides what the request itself asks the server to wait. `patience`: for how long to try
    again after a refusal or a lost connection. Raises `InvalidInput` if `url` can't be one.
    """

    def __init__(self, url: str, *, timeout: float, patience: float) -> None:
        self.url = url
        self._timeout = timeout
        self.patience = patience
        self._connections = Connections(origin(url))

    async def send(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        held: float = 0.0,
        repeatable: bool = True,
        patience: float | None = None,
    ) -> Response:
        """Send until there is an answer; return it if it is a success, else raise what it says.

        `held`: for how long the server was asked to hold the answer back. `repeatable`: doing it twice is the same as
        doing it once; if not, it is only sent again where it surely did nothing.
        Raises the errors of `coordinator.client`.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self.patience if patience is None else patience)
        query = f"?{urlencode(params)}" if params else ""
        backoff = _FIRST_PAUSE
        while True:
            try:
                async with asyncio.timeout(self._timeout + held):
                    response = await self._connections.request(
                        method, path + query, headers or {}, content, repeatable=repeatable
                    )
            except (OSError, EOFError) as error:
                trouble: Refused = Unreachable(f"No answer from {self.url}: {_why(error)}.", 0.0)
                if not repeatable and not isinstance(error, NotConnected):
                    raise trouble from error
            else:
                if response.is_success:
                    return response
                problem = problem_of(response.body, response.status, _retry_after(response))
                if not isinstance(problem, Refused):
                    raise problem
                trouble = problem
            # Never sooner than asked; and not all clients at once.
            pause = max(trouble.retry_after, backoff) * random.uniform(1.0, 1.25)
            if loop.time() + pause > deadline:
                raise trouble
            await asyncio.sleep(pause)
            backoff = min(backoff * 2, _LONGEST_PAUSE)

    async def close(self) -> None:
        await self._connections.close()


def _why(error: OSError | EOFError) -> str:
    if isinstance(error, EOFError):
        return "the connection was closed"
    return "it takes too long" if type(error) is TimeoutError else str(error)


def _retry_after(response: Response) -> float | None:
    """The seconds of a Retry-After header; its other form, a date, is not used by the coordinator."""
    try:
        return max(0.0, float(response.headers["retry-after"]))
    except (KeyError, ValueError):
        return None
