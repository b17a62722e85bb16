"""How the operator's commands reach a coordinator: over HTTP, one short-lived client per command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
import typer

from coordinator.client import Client, CoordinatorError, Unreachable
from coordinator.client.transport import DEFAULT_URL

CoordinatorUrl = Annotated[
    str, typer.Option("--coordinator", envvar="COORDINATOR_URL", metavar="URL", help="The coordinator's address.")
]


@contextmanager
def connect(url: str, *, patience: float = 0.0) -> Iterator[Client]:
    """A client that by default does not wait for better times: whoever typed the command wants to know now."""
    try:
        with Client(url, patience=patience) as client:
            yield client
    except Unreachable as error:
        raise CoordinatorError(
            f"{error} Is it running? `coordinator up` starts one; --coordinator URL names it."
        ) from None


def ask(url: str, method: str, path: str, params: Mapping[str, str | None] | None = None) -> Any:
    """One request; the answer's JSON, or None if it has no body. `params` that are None are left out."""
    given = {name: value for name, value in (params or {}).items() if value is not None}
    with connect(url) as client:
        body = client.request(method, path, params=given or None, repeatable=method == "GET")
    return msgspec.json.decode(body) if body else None


def probe(url: str) -> None:
    """Raise `CoordinatorError` unless a coordinator answers there: for commands that are patient from then on."""
    ask(url, "GET", "/livez")


def segment(text: str) -> str:
    """`text` as one segment of a path."""
    return quote(text, safe="")


__all__ = ["DEFAULT_URL", "CoordinatorUrl", "ask", "connect", "probe", "segment"]
