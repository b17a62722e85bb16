"""Optional parts of the distribution: if one is missing, say how to get it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from coordinator.core.errors import Misconfigured


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Around an import that only works with the extra `extra`. Raises `Misconfigured`."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("coordinator"):
            raise
        raise Misconfigured(
            f'The Python package {error.name} is missing. Get it with: pip install "central-coordinator[{extra}]"'
        ) from None
