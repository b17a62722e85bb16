"""The structure that the design states, held by a machine."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("core", "api", "dispatcher", "worker", "client", "cli")
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
LONGEST = 400


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports_of(path: Path) -> set[str]:
    """The top-level packages that a module imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def test_the_namespace_package_has_no_init_file() -> None:
    # One in any root would hide all the other rooms, and mypy would not say so.
    assert [name_of(path) for path in ROOT.glob("*/coordinator/__init__.py")] == []


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_is_a_package_with_an_essay(room: str) -> None:
    package = ROOT / room / "coordinator" / room / "__init__.py"
    assert ast.get_docstring(ast.parse(package.read_text())), f"{name_of(package)} does not say what the room is for"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_each_module_says_what_it_is_and_stays_short(path: Path) -> None:
    source = path.read_text()
    assert ast.get_docstring(ast.parse(source)) or not source.strip(), "no docstring"
    assert len(source.splitlines()) <= LONGEST, "what is the second noun in it?"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_core_speaks_redis_and_only_the_api_speaks_web(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    imported = imports_of(path)
    if room != "api":
        assert not imported & {"fastapi", "starlette", "uvicorn"}
    assert not imported & {"pickle", "marshal", "shelve"}, "what travels is JSON"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_keys_are_made_in_one_place(path: Path) -> None:
    if path.name == "keys.py":
        return
    nodes = list(ast.walk(ast.parse(path.read_text())))
    strings = [node.value for node in nodes if isinstance(node, ast.Constant)]
    docstrings = {ast.get_docstring(node, clean=False) for node in nodes if isinstance(node, _DOCUMENTED)}
    made = [s for s in strings if isinstance(s, str) and s.startswith("coord:") and s not in docstrings]
    assert made == []


_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


LUA = sorted((ROOT / "core" / "coordinator" / "core" / "lua").glob("*.lua"))
STEPS = [path for path in LUA if path.stem != "lib"]


@pytest.mark.parametrize("path", STEPS, ids=lambda path: path.stem)
def test_each_script_opens_with_its_purpose_and_call_form(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith(f"-- {path.stem}: ")
    header = "\n".join(line for line in lines[: next(i for i, line in enumerate(lines) if not line.startswith("--"))])
    for part in ("-- call: EVALSHA", "-- KEYS[1]: ", "-- returns: "):
        assert part in header, f"the header lacks {part!r}"


@pytest.mark.parametrize("path", STEPS, ids=lambda path: path.stem)
def test_each_header_names_the_arguments_that_the_body_uses(path: Path) -> None:
    lines = path.read_text().splitlines()
    header = [line for line in lines if line.startswith("-- ARGV[")]
    body = "\n".join(line for line in lines if not line.startswith("--"))
    told = {int(number) for line in header for number in re.findall(r"ARGV\[(\d+)", line.partition(": ")[0])}
    used = {int(number) for number in re.findall(r"ARGV\[(\d+)\]", body)}
    assert used <= told, "the body uses an argument that the header does not tell"
    open_ended = any(".." in line.partition(": ")[0] for line in header)
    assert told <= used or open_ended, "the header tells of an argument that nobody uses"


@pytest.mark.parametrize("path", STEPS, ids=lambda path: path.stem)
def test_each_script_has_one_typed_function(path: Path) -> None:
    sources = [module.read_text() for module in (ROOT / "core" / "coordinator" / "core").rglob("*.py")]
    users = sum(source.count(f'script("{path.stem}")') for source in sources)
    assert users == 1
