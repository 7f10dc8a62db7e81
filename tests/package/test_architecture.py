"""docs/architecture.md against the imports: no import cycles, and a room imports only from rooms above it in the table."""

import ast
import re
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
DOCUMENT = ROOT / "docs" / "architecture.md"


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted((SOURCE / "eqprop").rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(name: str) -> frozenset[str]:
    """The modules that a module imports, inside functions and under TYPE_CHECKING too.

    ``from eqprop.data import load`` counts as an import of `eqprop.data` and, if that exists, of the module `eqprop.data.load`.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(modules()[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import: write the full name"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            submodules = names & modules().keys()
            found |= submodules if len(submodules) == len(names) else submodules | {node.module or ""}
    return frozenset((found & modules().keys()) - {name})


def room(module: str) -> str:
    """The top-level package or module of eqprop that a module belongs to; "" for eqprop itself."""
    return module.removeprefix("eqprop").lstrip(".").partition(".")[0]


@cache
def documented_rooms() -> dict[str, int]:
    """The rooms in the table under the heading "Rooms", with the numbers of their rows, counted from the bottom layer."""
    text = DOCUMENT.read_text(encoding="utf-8")
    section = re.search(r"^## Rooms$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if section is None:
        pytest.skip("docs/architecture.md has no section 'Rooms'")
    rows = [line.split("|")[1] for line in section[1].splitlines() if line.startswith("|")]
    names = [re.findall(r"`([^`]+)`", cell) for cell in rows]
    layers = enumerate(row for row in names if row)
    return {name.rstrip("/").removesuffix(".py"): number for number, row in layers for name in row}


def test_there_are_no_import_cycles():
    try:
        tuple(TopologicalSorter({name: imports(name) for name in modules()}).static_order())
    except CycleError as error:
        pytest.fail(f"import cycle: {' <- '.join(error.args[1])}")


def test_every_room_is_documented():
    assert set(documented_rooms()) == {room(name) for name in modules()} - {"", "__main__"}


def test_a_room_imports_only_from_rooms_above_it():
    """`eqprop/__init__` and `__main__` collect the public names and may import from anywhere."""
    layers = documented_rooms()
    upward = [
        f"{name} imports {target}"
        for name in modules()
        for target in imports(name)
        if room(name) in layers
        and room(target) != room(name)
        and layers.get(room(target), len(layers)) >= layers[room(name)]
    ]
    assert upward == []
