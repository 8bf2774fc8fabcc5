"""Tools of code: compared with ruff's counts and graphs drawn by hand; hostile sources are told and skipped."""

from __future__ import annotations

import ast
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tool_process import World

from runners.tools import code_imports, code_measures, code_ruff, program_paths, python_source, symbols
from runners.tools.signature import ToolError

ROOT = Path(__file__).parents[3]
RUFF = program_paths.find("ruff")


def put(world: World, **sources: str | bytes) -> None:
    """Write modules below `made/`."""
    for name, text in sources.items():
        path = world.root / "made" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())


HOSTILE: dict[str, tuple[bytes, str]] = {
    "minus": (b"-" * 100_000 + b"1", "nested too deeply"),
    "call": (b"f" + b"()" * 20_000, "nested too deeply"),
    "brackets": (b"(" * 5000 + b")" * 5000, "too many nested parentheses"),
    "elif": (b"if a: pass\n" + b"elif a: pass\n" * 5000, "nested too deeply"),
    "nul": (b"x = 1\n\0", "NUL bytes"),
    "wide": (b"x = '" + b"a" * (10 << 20) + b"'", "bytes"),
    "broken": (b"def f(:\n", "line 1"),
    "tabs": (b"if a:\n\tx\n        y\n", "line 3"),
    "coding": (b"# coding: no-such-thing\nx = 1\n", "no-such-thing"),
    "rot": (b"# coding: rot13\nk = 1\n", "no Python"),
    "utf16": ("x = 1\n".encode("utf-16"), "NUL bytes"),
    "bytes": (b"x = '\xff'\n", "no Python"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_one_hostile_source_is_told_and_the_others_are_read(world: World, name: str) -> None:
    """By each tool, with the reason; the outline, which is of one file, refuses."""
    source, said = HOSTILE[name]
    put(world, bad=source, good="import os\n\n\ndef f(a):\n    if a:\n        return 1\n")
    answers = [
        world.worker("code_complexity", path="made", above=1)["functions"],
        world.worker("code_dead_code", path="made")["findings"],
    ]
    assert [[each["path"] for each in found] for found in answers] == [["made/good.py"]] * 2
    for tool in ("code_complexity", "code_dead_code", "code_dependency_graph"):
        (skipped,) = world.worker(tool, path="made")["skipped"]
        assert skipped.startswith("made/bad.py: ")
        assert said in skipped
    refusal = world.worker.refusal("code_outline", path="made/bad.py")
    assert "at most" in refusal if name == "wide" else said in refusal
    assert world.worker("find_symbol", name="f")["symbols"][0]["path"] == "made/good.py"


def test_long_chains_that_still_parse_are_read(world: World) -> None:
    """A sum of a thousand terms, and a thousand `elif`: as deep as they are long. Other encodings than UTF-8 too."""
    put(
        world,
        chains=b"def f(a):\n    if a: pass\n"
        + b"    elif a: pass\n" * 1200
        + b"\nx = 1"
        + b" + 1" * 900
        + b"\n",
        latin="# coding: latin-1\nname = 'é'\n".encode("latin-1"),
        japanese="# coding: shift_jis\nname = '漢字'\n".encode("shift_jis"),
        mark="\ufeffdef marked(): pass\n",
    )
    names = [each["name"] for each in world.worker("code_outline", path="made/chains.py")["symbols"]]
    assert names == ["f", "x"]
    found = world.worker("code_complexity", path="made", above=0)
    assert (found["functions"][0]["complexity"], found["skipped"]) == (1202, [])
    assert len(world.worker("find_symbol", name="*", path="made")["symbols"]) == 5


def test_nothing_of_the_source_is_imported_or_run(world: World) -> None:
    """Not by a name that shadows the standard library, a configuration, a plugin or a comment to a linter."""
    evil = f"open({str(world.root / 'ran')!r}, 'w')\n"
    put(world, ast=evil, __init__=evil, conftest=evil, sitecustomize=evil)
    (world.root / "ruff.toml").write_text("extend = '/etc/passwd'\n[lint]\nselect = ['ALL']\n")
    (world.root / "pyproject.toml").write_text("[tool.ruff]\nline-length = 1\n")
    for tool in ("code_complexity", "code_dead_code", "code_dependency_graph", "code_lint"):
        assert world.worker(tool, path="made")["skipped"] == []
    world.worker("code_format", path="made/ast.py")
    world.worker("code_outline", path="made/ast.py")
    assert not (world.root / "ran").exists()


@pytest.mark.parametrize("tool", ["code_complexity", "code_dead_code", "code_dependency_graph", "code_lint"])
def test_links_and_places_outside_are_not_read(world: World, tool: str) -> None:
    """A link to a file outside is no source here, and a directory outside is refused."""
    (world.folder / "outside.py").write_text("def outside(a):\n    import os\n")
    (world.root / "made").mkdir()
    (world.root / "made" / "link.py").symlink_to(world.folder / "outside.py")
    assert "outside" not in json.dumps(world.worker(tool, path="made"))
    assert "outside" in world.worker.refusal(tool, path="..")


def functions_by_ruff(path: Path) -> dict[tuple[int, str], int]:
    command = [
        str(RUFF),
        "check",
        "--isolated",
        "--no-cache",
        "--select=C901",
        "--ignore-noqa",
        "--exit-zero",
    ]
    command += ["--config=lint.mccabe.max-complexity=0", "--output-format=json", str(path)]
    done = subprocess.run(command, capture_output=True, check=True)
    found = {}
    for each in json.loads(done.stdout):
        name, number = each["message"].split("`")[1], each["message"].rpartition("(")[2].split(" ")[0]
        found[each["filename"], each["location"]["row"], name] = int(number)
    return found  # type: ignore[return-value]


def test_complexity_is_what_ruff_counts(tmp_path: Path) -> None:
    """On epad's own sources, and on a function that has every kind of branch."""
    (tmp_path / "all.py").write_text(BRANCHES)
    for folder in (ROOT / "runners" / "tools", ROOT / "epad" / "gateway", tmp_path):
        ours = {}
        for path in folder.rglob("*.py"):
            for name, function in code_measures.functions(ast.parse(path.read_bytes())):
                place = str(path), function.lineno, name.rpartition(".")[2]
                ours[place] = code_measures.complexity(function)
        assert ours == functions_by_ruff(folder)


BRANCHES = """
def f(a, b):
    for i in a:
        if a and b: pass
        elif b: pass
        else: pass
    else: pass
    try: pass
    except A: pass
    except* B: pass
    while 1: break
    else: pass
    g = lambda: 1 if a else 2
    [z for z in a if z]
    match a:
        case 1: pass
        case [x] if x: pass
        case (1 | _) as y: pass
    match a:
        case _ if b: pass
    def inner():
        try: pass
        except C: pass
        else: pass
        finally: pass
    class C:
        def m(self):
            if a: pass
async def h():
    async for x in y: pass
    async with z: pass
""".replace("    except* B: pass\n", "    except B: pass\n")


def test_the_most_complex_comes_first(world: World) -> None:
    """With its full name, above the number that was asked for."""
    put(
        world,
        m="class A:\n    def small(self): pass\n    def big(self, x):\n        if x:\n            while x: pass\n",
    )
    found = world.worker("code_complexity", path="made", above=1)["functions"]
    assert found == [{"path": "made/m.py", "line": 3, "name": "A.big", "complexity": 3}]


DEAD = """import os, sys as system, json
import kept as kept
from typing import Any
try:
    import maybe
except ImportError:
    maybe = None


def unused(x: "Any"):
    return x
    print(json)


def used(): raise SystemExit
def by_name(): yield 1
class Base: ...
class Child(Base):
    def hook(self): ...
class Lonely:
    def lonely_method(self):
        while used:
            continue
            used()
def generator():
    return
    yield
LIMIT = 1
TABLE = {"by_name": generator, "x": Child, "maybe": maybe}
"""


def test_dead_code_is_found_by_its_confidence(world: World) -> None:
    """And what is alive is not: used elsewhere, by a text, tried, passed on, a generator."""
    put(world, dead=DEAD, other="from dead import TABLE, os\n")
    (world.root / "page.html").write_text("{{ LIMIT }}")
    found = world.worker("code_dead_code", path="made", confidence=0)["findings"]
    assert [(each["line"], each["kind"], each["name"], each["confidence"]) for each in found] == [
        (12, "unreachable", "", 100),
        (24, "unreachable", "", 100),
        (1, "import", "system", 90),
        (1, "import", "TABLE", 90),
        (1, "import", "os", 90),
        (10, "function", "unused", 60),
        (20, "class", "Lonely", 60),
        (21, "method", "lonely_method", 60),
        (19, "method", "hook", 40),
    ]
    sure = world.worker("code_dead_code", path="made")["findings"]
    assert {each["confidence"] for each in sure} == {90, 100}


def test_the_graph_of_imports_has_its_circles(world: World) -> None:
    """Relative ones, of packages, of types alone, and inside functions, which make no circle."""
    types = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..a import t\n"
    sources = {
        "pack/__init__": "from .a import x\n",
        "pack/a": "from . import b\nfrom .sub.c import z\n",
        "pack/b": "import os.path\nfrom pack import a\n",
        "pack/sub/__init__": "",
        "pack/sub/c": f"from ..b import y\n{types}",
        "alone": "def f():\n    from other import g\n",
        "other": "import alone\nfrom pack import *\nimport requests, pack.a.attribute\n",
    }
    put(world, **sources)
    found = world.worker("code_dependency_graph", path="made")
    assert found["modules"] == ["alone", "other", "pack", "pack.a", "pack.b", "pack.sub", "pack.sub.c"]
    assert [(each["from"], each["to"], each["line"], each["later"]) for each in found["imports"]] == [
        ("alone", "other", 2, True),
        ("other", "alone", 1, False),
        ("other", "pack", 2, False),
        ("other", "pack.a", 3, False),
        ("pack", "pack.a", 1, False),
        ("pack.a", "pack.b", 1, False),
        ("pack.a", "pack.sub.c", 2, False),
        ("pack.b", "pack.a", 2, False),
        ("pack.sub.c", "pack.a", 4, True),
        ("pack.sub.c", "pack.b", 1, False),
    ]
    assert found["cycles"] == [["pack.a", "pack.b"]]
    assert found["external"] == ["os", "requests", "typing"]


GRAPHS = st.dictionaries(st.sampled_from("abcdef"), st.sets(st.sampled_from("abcdef")), min_size=1).map(
    lambda graph: {name: {each for each in targets if each in graph} for name, targets in graph.items()}
)


@given(GRAPHS)
def test_circles_are_real_and_none_is_missing(graph: dict[str, set[str]]) -> None:
    """Two names are in one part if each reaches the other."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            fresh = graph[waiting.pop()] - seen
            seen |= fresh
            waiting += fresh
        return seen

    parts = list(code_imports.parts(graph))
    assert sorted(itertools.chain(*parts)) == sorted(graph)
    for one, other in itertools.permutations(graph, 2):
        together = any({one, other} <= part for part in parts)
        assert together == (other in reached(one) and one in reached(other))
    for circle in code_imports.cycles(graph):
        assert all(after in graph[before] for before, after in itertools.pairwise([*circle, circle[0]]))
        assert len(set(circle)) == len(circle) > 1


def test_an_outline_has_lines_and_ends(world: World) -> None:
    """In the order of the file."""
    found = world.worker("code_outline", path="src/app.py")["symbols"]
    assert [(each["kind"], each["name"], each["line"], each["end"]) for each in found] == [
        ("class", "App", 4, 6),
        ("method", "run", 5, 6),
        ("function", "helper", 9, 10),
    ]


def test_files_are_linted_by_rules(world: World) -> None:
    """Chosen ones; an unknown rule is told by ruff's own words. A syntax of any Python is taken."""
    put(world, m="import os\ntype A = int\n", n="def f(:\n")
    found = world.worker("code_lint", path="made", select="F401")
    assert found["findings"] == [
        {"path": "made/m.py", "line": 1, "rule": "F401", "text": "`os` imported but unused"},
        *found["findings"][1:],
    ]
    assert {(each["path"], each["rule"]) for each in found["findings"][1:]} == {
        ("made/n.py", "invalid-syntax")
    }
    assert "ZZZ" in world.worker.refusal("code_lint", path="made", select="ZZZ")
    assert "wrong arguments" in world.worker.refusal("code_lint", path="made", select="F --config=x")


@pytest.mark.parametrize("deep", [b"-" * 100_000 + b"1", b"x" + b".b()" * 20_000])
def test_a_source_that_ends_ruff_is_told_and_the_others_are_linted(world: World, deep: bytes) -> None:
    """Ruff's stack overflows: the file is found by halves."""
    put(world, **{f"m{number}": "import os\n" for number in range(5)}, deep=deep)
    found = world.worker("code_lint", path="made", select="F")
    assert [each["path"] for each in found["findings"]] == [f"made/m{number}.py" for number in range(5)]
    assert found["skipped"] == ["made/deep.py: ruff cannot take it: it is nested too deeply"]
    assert "nested too deeply" in world.worker.refusal("code_format", path="made/deep.py")


def test_a_name_that_looks_like_an_option_is_a_file(world: World) -> None:
    """Ruff is given paths that begin with the directory."""
    (world.root / "--config=x.py").write_text("import os\n")
    (finding,) = world.worker("code_lint", path="--config=x.py", select="F")["findings"]
    assert finding["path"] == "--config=x.py"


def test_a_file_is_formatted_only_if_that_is_asked_for(world: World) -> None:
    """With a diff, and an undo that brings back every byte; line ends stay. A formatted one is not written."""
    path = world.root / "src" / "app.py"
    path.write_bytes(b"x = { 'a':1 }\r\n")
    shown = world.worker("code_format", path="src/app.py")
    assert shown["changed"]
    assert '+x = {"a": 1}' in shown["diff"]
    assert path.read_bytes() == b"x = { 'a':1 }\r\n"
    made = world.worker("code_format", path="src/app.py", check=False)
    assert path.read_bytes() == b'x = {"a": 1}\r\n'
    again = world.worker("code_format", path="src/app.py", check=False)
    assert (again["changed"], "undo" in again) == (False, False)
    world.worker.send({"id": 10_000, "undo": made["undo"]})
    assert world.worker.receive()["result"]["restored"] == ["src/app.py"]
    assert path.read_bytes() == b"x = { 'a':1 }\r\n"


FORMATS: list[tuple[bytes, str]] = [
    (b"def f(:\n", "Failed to parse"),
    (b"x = '\xff'\n", "UTF-8"),
    (b"x = 1\n\0", "Failed to parse"),
    (b"x" * ((2 << 20) + 1), "at most"),
]


@pytest.mark.parametrize(("source", "said"), FORMATS)
def test_what_cannot_be_formatted_is_left_alone(world: World, source: bytes, said: str) -> None:
    """With ruff's own words."""
    (world.root / "bad.py").write_bytes(source)
    assert said in world.worker.refusal("code_format", path="bad.py", check=False)
    assert (world.root / "bad.py").read_bytes() == source


def test_without_ruff_the_fix_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain install has none; the four other tools are the standard library's."""
    monkeypatch.setattr(code_ruff, "_RUFF", "")
    with pytest.raises(ToolError, match="ruff is not installed") as error:
        code_ruff._ruff("check")
    assert error.value.hint == "pip install 'epad[code]'"


def test_own_sources_are_all_read() -> None:
    """The trees of this repository, with their definitions: none is too deep or too large."""
    for path in (ROOT / "runners" / "tools").glob("*.py"):
        tree = python_source.parsed(path.read_bytes())
        assert list(symbols.definitions(tree, path.name)) or path.name == "__init__.py"
    assert sys.version_info >= (3, 11)
