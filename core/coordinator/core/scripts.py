"""Lua scripts: one file each under `lua/`, loaded once, run by SHA.

`lua/lib.lua` is put in front of every script: the few functions that several steps share.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cache
from importlib import resources


@dataclass(frozen=True, slots=True)
class Script:
    """One atomic step as Redis gets it."""

    name: str
    source: str = field(repr=False)
    sha: str


@cache
def _text(name: str) -> str:
    return resources.files(__package__).joinpath("lua", f"{name}.lua").read_text()


@cache
def script(name: str) -> Script:
    """The script of the step `name`, with the shared functions in front."""
    source = f"{_text('lib')}\n{_text(name)}"
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def names() -> list[str]:
    """The names of all steps."""
    files = resources.files(__package__).joinpath("lua").iterdir()
    return sorted(f.name[:-4] for f in files if f.name.endswith(".lua") and f.name != "lib.lua")
