"""The workers of one model, in pages that one call can look at; work goes round the pages as it goes round the workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_PAGE: Final = 100
"""How many workers one assign looks at: 100 cost Redis 50 us, 500 cost it 660."""
_REST_SECONDS: Final = 0.005
"""A page without room is left alone for so long per page of the fleet: full workers are looked at 200 times a second at most."""


class Fleet:
    """Tells which pages to ask for room, and in which order. A fleet of one page is asked always."""

    def __init__(self, names: Sequence[str]) -> None:
        count = max(1, -(-len(names) // _PAGE))
        self.names: Final = frozenset(names)
        self.pages: Final = [list(names[at::count]) for at in range(count)]
        self._next = 0
        self._roomy = 0
        """The page that had room last: whatever wakes us most probably comes from there."""
        self._asked = [float("-inf")] * count
        """When each page was asked last and had no room."""

    def batch(self, at: int, most: int) -> int:
        """How many jobs to deal to a page. Where there are several, none gets a second round before the others' first."""
        return most if len(self.pages) == 1 else min(most, len(self.pages[at]))

    def due(self, now: float) -> list[int]:
        """The pages to ask. Those that had no room a moment ago rest, unless it is the one that had some last."""
        count = len(self.pages)
        order = [(self._next + at) % count for at in range(count)]
        return [at for at in order if at == self._roomy or self._asked[at] + self._rest <= now]

    def had_room(self, at: int) -> None:
        self._roomy = at
        self._asked[at] = float("-inf")
        self._next = (at + 1) % len(self.pages)

    def had_none(self, at: int, now: float) -> None:
        self._asked[at] = now

    def owed(self, since: float) -> float | None:
        """When the next page may be asked that was not asked since then, None if all were."""
        left = [asked for asked in self._asked if asked < since]
        return min(left) + self._rest if left else None

    @property
    def _rest(self) -> float:
        return _REST_SECONDS * len(self.pages)
