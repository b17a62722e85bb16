"""One way to the coordinator: an HTTP connection pool that knows what may be sent again, and when to give up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Final

import httpx

from coordinator.client.errors import Unreachable, problem_of
from coordinator.core.errors import InvalidInput, Refused

DEFAULT_URL: Final = "http://127.0.0.1:8000"
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0
_KEEP_ALIVE: Final = 4.0
"""Seconds; below the server's own, or a request meets a connection that is just being closed."""
_LOOPBACK: Final = frozenset(("localhost", "127.0.0.1", "::1"))


class Transport:
    """Sends requests to one coordinator. Times in seconds.

    `timeout`: for one try, besides what the request itself asks the server to wait. `patience`: for how long to try
    again after a refusal or a lost connection.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float,
        patience: float,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        try:
            base = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise InvalidInput(f"'{url}' is not a URL: {error}.") from error
        if base.scheme not in ("http", "https") or not base.host:
            raise InvalidInput(f"'{url}' is not the URL of a coordinator; it looks like {DEFAULT_URL}.")
        self.url = url
        self._timeout = timeout
        self.patience = patience
        self._http = httpx.AsyncClient(
            base_url=base,
            transport=transport,
            verify=base.scheme == "https",  # loading the certificates takes longer than starting all the rest
            trust_env=base.host not in _LOOPBACK,
            timeout=timeout,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=_KEEP_ALIVE),
        )

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
    ) -> httpx.Response:
        """Send until there is an answer; return it if it is a success, else raise what it says.

        `held`: for how long the server was asked to hold the answer back. `repeatable`: doing it twice is the same as
        doing it once; if not, it is only sent again where it surely did nothing.
        Raises the errors of `coordinator.client`.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self.patience if patience is None else patience)
        timeout = httpx.Timeout(self._timeout, read=self._timeout + held, pool=None)
        backoff = _FIRST_PAUSE
        while True:
            try:
                response = await self._http.request(
                    method, path, content=content, headers=headers, params=params, timeout=timeout
                )
            except httpx.TransportError as error:
                trouble: Refused = Unreachable(f"No answer from {self.url}: {str(error) or type(error).__name__}.", 0.0)
                if not repeatable and not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
                    raise trouble from error
            else:
                if response.is_success:
                    return response
                problem = problem_of(response.content, response.status_code, _retry_after(response))
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
        await self._http.aclose()


def _retry_after(response: httpx.Response) -> float | None:
    """The seconds of a Retry-After header; its other form, a date, is not used by the coordinator."""
    try:
        return max(0.0, float(response.headers["retry-after"]))
    except (KeyError, ValueError):
        return None
