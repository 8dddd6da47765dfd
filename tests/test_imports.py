"""Imports run one way: a room uses those below it, and none of those above."""

import ast
from pathlib import Path

import mre_jax

PACKAGE = Path(mre_jax.__file__).parent

ROOMS = (
    {"errors"},
    {"io"},
    {"reward"},
    {"models", "diffusion"},
    {"pytorch"},
    {"weights"},
    {"smartedit"},
    {"data", "editing"},
    {"training"},
    {"toyworld"},
    {"judges"},
    {"annotation", "evaluation"},
    {"report", "improvement", "planning"},
    {"demo", "doctor"},
    {"commands"},
    {"cli"},
)
"""From the lowest, which all may use. Rooms of one line do not know each other."""

FLOOR = {room: number for number, rooms in enumerate(ROOMS) for room in rooms}


def room_of(module: str) -> str:
    """The folder or file below the package; "" for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def imported(path: Path) -> set[str]:
    """Modules of the package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "mre_jax":
            found |= {f"mre_jax.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return {name for name in found if name.startswith("mre_jax.")}


def test_no_arrow_runs_up():
    up = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        here = room_of(name)
        if here in ("__init__", "__main__"):
            continue
        for module in sorted(imported(path)):
            there = room_of(module)
            if there in FLOOR and there != here and FLOOR[there] >= FLOOR[here]:
                up.append(f"{name} -> {module}")
    assert not up


def test_every_room_has_a_floor():
    there = {path.stem for path in PACKAGE.glob("*.py")} | {
        path.parent.name for path in PACKAGE.glob("*/__init__.py")
    }
    assert there - {"__init__", "__main__"} == FLOOR.keys()
