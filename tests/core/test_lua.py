"""The scripts: each header tells the truth about its body, and each script has exactly one typed function."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest

from coordinator.core import keys, scripts, steps

FOLDER = Path(str(resources.files("coordinator.core"))) / "lua"
NAMES = scripts.names()
FAMILIES = {
    name.replace("dead_index", "dead:index")
    for name, thing in vars(keys).items()
    if getattr(thing, "__module__", "") == keys.__name__ and name not in ("base", "partition_of", "notify")
}


def _parts(name: str) -> tuple[str, str]:
    """A script's header and its body."""
    lines = (FOLDER / f"{name}.lua").read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if not line.startswith("--"))
    body = [line for line in lines[first:] if not line.lstrip().startswith("--")]
    return "\n".join(lines[:first]), "\n".join(body)


def _named_in(code: str) -> set[str]:
    """The families of keys that a piece of Lua builds names of."""
    found = set(re.findall(r"""(?:base \.\. |[^=]= )'([a-z]+(?::index)?)[:']""", code))
    if '"at":"([^ "]+) ([^"]+)"' in code:
        found |= {"jobs", "inbox", "parked"}  # the place that a record names
    return found & FAMILIES


def _library() -> dict[str, str]:
    """The shared functions, by name."""
    text = (FOLDER / "lib.lua").read_text()
    found = re.findall(r"^local function (\w+)\(.*?\)\n(.*?)^end$", text, re.MULTILINE | re.DOTALL)
    return dict(found)


def _used_by(code: str) -> set[str]:
    """The families that code uses, by itself or through the shared functions that it calls."""
    found = _named_in(code)
    for name, body in _library().items():
        if re.search(rf"\b{name}\(", code):
            found |= _used_by(body)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_header_opens_with_the_verb_and_says_what_is_returned(name: str) -> None:
    header, _ = _parts(name)
    assert header.startswith(f"-- {name}: ")
    assert "-- call: EVALSHA <sha> 1 coord:{p}:" in header
    assert re.search(r"^-- returns: \S", header, re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_the_keys_of_a_header_are_those_of_its_body(name: str) -> None:
    header, body = _parts(name)
    (line,) = re.findall(r"^-- KEYS\[1\]: the partition's base; (.*) follows? from it$", header, re.MULTILINE)
    assert set(line.split(", ")) == _used_by(body)
    assert "KEYS[" not in body, "lib.lua takes the base; a body uses nothing else"


@pytest.mark.parametrize("name", NAMES)
def test_the_arguments_of_a_header_are_those_of_its_body(name: str) -> None:
    header, body = _parts(name)
    told = re.findall(r"^-- ARGV\[(\d+)(\.\.)?\]: \S", header, re.MULTILINE)
    assert [int(index) for index, _ in told] == list(range(1, len(told) + 1))
    assert not any(more for _, more in told[:-1]), "only the last one is a list"
    used = {int(index) for index in re.findall(r"ARGV\[(\d+)\]", body)}
    starts = {int(index) for index in re.findall(r"\bat = (\d+)\b(?! *\.)", body) if "ARGV[at" in body}
    starts |= {int(index) for index in re.findall(r"unpack\(ARGV, (\d+)\)", body)}
    is_list = bool(told) and bool(told[-1][1])
    assert used == set(range(1, len(told) + (not is_list)))
    assert starts == ({len(told)} if is_list else set())


@pytest.mark.parametrize("name", NAMES)
def test_the_call_of_a_header_has_as_many_arguments(name: str) -> None:
    header, _ = _parts(name)
    (call,) = re.findall(r"^-- call: EVALSHA <sha> 1 coord:\{p\}: ?(.*)$", header, re.MULTILINE)
    told = re.findall(r"^-- ARGV\[\d+(\.\.)?\]", header, re.MULTILINE)
    plain = re.sub(r"\(.*\)…|<\w+>…", "…", call).split()
    assert len(plain) == len(told)
    assert (plain[-1:] == ["…"]) == (told[-1:] == [".."])


@pytest.mark.parametrize("name", NAMES)
def test_each_script_has_exactly_one_function_of_its_name(name: str) -> None:
    folder = Path(str(resources.files("coordinator.core"))) / "steps"
    code = "\n".join(path.read_text() for path in sorted(folder.glob("*.py")))
    assert code.count(f'script("{name}")') == 1
    assert len(re.findall(rf"^async def {name}\(", code, re.MULTILINE)) == 1
    function = getattr(steps, name)
    assert name in steps.__all__
    assert function.__doc__


def test_there_is_no_function_without_a_script() -> None:
    assert {name for name in steps.__all__ if name.islower()} == set(NAMES)


def test_a_script_is_its_library_and_its_body() -> None:
    one = scripts.script("held")
    assert one is scripts.script("held")
    assert one.source.startswith((FOLDER / "lib.lua").read_text())
    assert len(one.sha) == 40


def test_the_bucket_of_lua_is_the_bucket_of_python() -> None:
    assert f"local bucket_ms = {keys.BUCKET_SECONDS * 1000}\n" in (FOLDER / "lib.lua").read_text()


def test_the_lanes_of_lua_are_the_lanes_of_python() -> None:
    lanes = "{ " + ", ".join(f"'{lane}'" for lane in keys.LANES) + " }"
    for name in ("submit", "assign", "rouse"):
        assert lanes in _parts(name)[1]
