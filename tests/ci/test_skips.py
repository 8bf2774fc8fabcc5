"""The allow-list of skips: every reason of the suite is on it, and a run of CI fails for any other."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from allowed_skips import LIST, Row, objections, read
from machine_lacks import is_known, is_lacking

TESTS = Path(__file__).parents[1]
BY_PYTEST = "could not import '*': *"


def reasons_in(source: str) -> Iterator[str]:
    """Find the reasons that a test file gives, with `*` for what is put in at run time."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = next((word.value for word in node.keywords if word.arg == "reason"), None)
        if called in {"pytest.mark.skipif", "pytest.mark.skip", "pytest.importorskip", "pytest.skip"}:
            if given is None and called == "pytest.skip":
                given = node.args[0]
            yield BY_PYTEST if given is None else as_pattern(given)


def as_pattern(text: ast.expr) -> str:
    if isinstance(text, ast.Constant):
        return str(text.value)
    assert isinstance(text, ast.JoinedStr), f"a reason must be a text in place, not {ast.unparse(text)}"
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in text.values)


def test_every_reason_of_the_suite_is_on_the_list_and_no_other() -> None:
    """A new skip needs a row here and now, not in the first run of CI; a row without a test is taken out."""
    given = {reason for path in TESTS.rglob("*.py") for reason in reasons_in(path.read_text())}
    rows = read(LIST)
    unlisted = {reason for reason in given if not any(row.match(reason) for row in rows)}
    unused = {row.reason for row in rows if not any(row.match(reason) for reason in given)}
    assert (unlisted, unused) == (set(), set())


def test_every_row_says_why_and_what_is_lacking() -> None:
    """In words that can be tried."""
    rows = read(LIST)
    assert len({row.reason for row in rows}) == len(rows)
    for row in rows:
        assert row.why, row
        assert is_known(row.lacking), row
        assert "*" not in row.lacking or "*" in row.reason, row


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('pytest.skip("a b")', ["a b"]),
        ('pytest.skip(f"no {x} and {y!r} here")', ["no * and * here"]),
        ('@pytest.mark.skipif(True, reason="c")\ndef f(): ...', ["c"]),
        ('pytest.importorskip("d", reason="e")\npytest.importorskip("f")', ["e", BY_PYTEST]),
        ("other.skip(1)", []),
    ],
)
def test_reasons_are_found(source: str, found: list[str]) -> None:
    """In each of the ways in which pytest can be told."""
    assert list(reasons_in(source)) == found


ROWS = [Row("no * here", "program *", "w"), Row("it has none (yet)", "root", "w"), Row("old", "sense", "w")]


@pytest.mark.parametrize(
    ("reason", "lacking", "said"),
    [
        ("no fish here", {"program fish"}, ""),
        ("no fish and no curl here", {"program fish and no curl"}, ""),
        ("no fish here", set(), "nothing is lacking of: program fish"),
        ("it has none (yet)", {"root"}, ""),
        ("it has none yet", {"root"}, "not in tests/skips.toml"),
        ("no fish here today", {"program fish"}, "not in tests/skips.toml"),
        ("flaky", {"root", "sense"}, "not in tests/skips.toml"),
    ],
)
def test_a_skip_is_allowed_by_its_reason_and_by_what_is_lacking(
    reason: str, lacking: set[str], said: str
) -> None:
    """The reason as a whole, and the thing that it names."""
    found = list(objections({"t.py::t": reason}, ROWS, lambda thing: thing in lacking))
    assert [said in one and one.startswith("t.py::t: ") for one in found] == ([True] if said else [])


@pytest.mark.parametrize(
    ("thing", "lacks"),
    [
        ("program sh", False),
        ("program sh, no-such-program", True),
        ("program sh and no no-such-program", True),
        ("module pytest", False),
        ("module no_such.module", True),
        ("absence-of-module pytest", True),
        ("variable NO_SUCH_VARIABLE", True),
        ("root", os.geteuid() != 0),
        ("another user than root", os.geteuid() == 0),
        ("sense", True),
    ],
)
def test_what_a_machine_lacks_is_tried(thing: str, lacks: bool) -> None:
    """By what is there, not by what a test says."""
    assert is_lacking(thing) is lacks


CONFTEST = """
from pathlib import Path
from allowed_skips import watch

def pytest_configure(config):
    watch(config, Path(__file__).with_name("skips.toml"))
"""
SKIPS = """
[[skip]]
reason = "no * here"
lacking = "program *"
why = "a plant"
"""
PLANTS = {
    "a reason on no list": ('pytest.skip("flaky")', "'flaky' is not in"),
    "a program that is there": ('pytest.skip("no sh here")', "nothing is lacking of: program sh"),
    "a module that is skipped whole": ('pytest.skip("flaky", allow_module_level=True)', "'flaky' is not in"),
}


def run(directory: Path, source: str, *options: str, ci: str = "true") -> tuple[int, str]:
    """Run pytest on one planted file; its exit status and what it said."""
    (directory / "conftest.py").write_text(CONFTEST)
    (directory / "skips.toml").write_text(SKIPS)
    (directory / "test_it.py").write_text(f"import pytest\n\ndef test_fine():\n    pass\n\n{source}\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "CI"))}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-p",
            "xdist.plugin",
            "--rootdir",
            directory,
            *options,
            directory,
        ],
        cwd=directory,
        # The plugins of this suite, which the planted one does not need, take two thirds of the time of a run.
        env={**kept, "PYTHONPATH": f"{TESTS}/support", "CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("options", [(), ("-n", "1")], ids=["one process", "xdist"])
@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_skip_turns_ci_red(tmp_path: Path, plant: str, options: tuple[str, ...]) -> None:
    """And is named with its reason; the tests themselves all passed."""
    skip, said = PLANTS[plant]
    source = skip if "module_level" in skip else f"def test_planted():\n    {skip}\n"
    status, output = run(tmp_path, source, *options)
    assert (status, said in output) == (1, True), output
    assert re.search(r"\b1 skipped", output), output


@pytest.mark.parametrize("options", [(), ("-n", "1")], ids=["one process", "xdist"])
def test_a_skip_that_is_allowed_leaves_ci_green(tmp_path: Path, options: tuple[str, ...]) -> None:
    """So does an expected failure, which is no skip."""
    source = (
        'def test_planted():\n    pytest.skip("no no-such-program here")\n'
        "@pytest.mark.xfail(strict=True)\ndef test_expected():\n    raise AssertionError\n"
    )
    status, output = run(tmp_path, source, *options)
    assert (status, "skipped in CI: 1 allowed, 0 not" in output) == (0, True), output


def test_on_a_developers_machine_no_skip_is_a_failure(tmp_path: Path) -> None:
    """Without CI=true nothing is watched."""
    status, output = run(tmp_path, 'def test_planted():\n    pytest.skip("flaky")\n', ci="")
    assert (status, "in CI" in output) == (0, False), output
