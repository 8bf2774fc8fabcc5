"""Without any extra: nearly all tools work, and the others name the extra that they need."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from tool_process import tool_world

from runners.tools import catalogue
from runners.tools.signature import is_by_daemon

MOST_LACKING = 15
"""Of 127 tools the seed's own server has 112 without extras."""

# Whatever belongs to no requirement of a plain install is not there.
WITHOUT_EXTRAS = """
import runpy, sys
from importlib.abc import MetaPathFinder
HIDDEN = frozenset({hidden!r})
class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        return None
sys.meta_path.insert(0, Absent())
sys.argv = ["runners.tools", *sys.argv[1:]]
runpy.run_module("runners.tools", run_name="__main__", alter_sys=True)
"""


def plain_distributions() -> set[str]:
    """The names of epad's distribution and all that it requires without an extra."""
    found: set[str] = set()
    wanted = ["epad"]
    while wanted:
        name = _canonical(wanted.pop())
        if name in found:
            continue
        found.add(name)
        for line in importlib.metadata.requires(name) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                wanted.append(requirement.name)
    return found


def _canonical(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def hidden_modules() -> list[str]:
    plain = plain_distributions()
    owners = importlib.metadata.packages_distributions()
    return sorted(
        module for module, names in owners.items() if not {_canonical(one) for one in names} & plain
    )


def test_most_tools_work_without_an_extra_and_the_others_name_theirs(tmp_path: Path) -> None:
    """By the examples of all; who lacks something says how it is had."""
    program = ("-c", WITHOUT_EXTRAS.format(hidden=hidden_modules()))
    lacking = set()
    with tool_world(tmp_path, ",".join(catalogue.CATEGORIES), program=program) as world:
        for name, tool in catalogue.load(catalogue.CATEGORIES).items():
            for example in () if is_by_daemon(tool.call) else tool.meta.examples:
                world.fresh()
                answer = world.worker.answer(name, dict(example))
                if "is not installed" in answer.get("error", ""):
                    assert re.search(r"pip install 'epad\[\w+\]'", answer["hint"]), answer
                    lacking.add(name)

    assert lacking >= {"json_query", "yaml_parse", "xml_parse"}
    assert len(lacking) <= MOST_LACKING, sorted(lacking)


@pytest.mark.parametrize("name", ["apsw", "psutil", "msgspec"])
def test_what_epad_requires_itself_is_not_hidden(name: str) -> None:
    """Otherwise the test above would find too much lacking, and say so for the wrong reason."""
    assert name not in hidden_modules()
    assert "jmespath" in hidden_modules()
