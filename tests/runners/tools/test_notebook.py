"""Tools of notebooks: what is not asked for keeps its bytes, and a figure of megabytes never comes to the model."""

from __future__ import annotations

import base64
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tool_process import NOTEBOOK, World

from runners.tools import notebook_text


def written(world: World, value: object, **style: Any) -> Path:
    path = world.root / "made.ipynb"
    path.write_text(json.dumps(value, **style))
    return path


def with_outputs(*outputs: object) -> dict[str, Any]:
    return {**NOTEBOOK, "cells": [{**NOTEBOOK["cells"][0], "outputs": list(outputs)}]}


def common(one: str, other: str) -> int:
    """Return the length of the beginning that two texts share."""
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))))


def test_cells_are_read_and_outputs_only_if_wanted(world: World) -> None:
    """By pages, with the ids."""
    found = world.worker("notebook_read", path="study.ipynb")
    assert found == {
        "cells": [
            {"number": 0, "type": "code", "source": "print(1)\n", "id": "a"},
            {"number": 1, "type": "markdown", "source": "# Study", "id": "b"},
        ],
        "total": 2,
        "next": None,
    }
    page = world.worker("notebook_read", path="study.ipynb", outputs=True, limit=1)
    assert (page["cells"][0]["outputs"], page["next"]) == (["1\n"], 1)
    assert world.worker("notebook_read", path="study.ipynb", first=9)["cells"] == []


def test_five_megabytes_of_a_figure_are_named_and_left_out(world: World) -> None:
    """The text that stands for it is shown, a long one by its head, without the terminal's escapes."""
    figure = base64.b64encode(bytes(4 << 20)).decode()
    shown = {"output_type": "display_data", "data": {"image/png": figure, "text/plain": ["<Figure>"]}}
    page = {"output_type": "execute_result", "data": {"text/html": "<script>evil()</script>"}}
    error = {
        "output_type": "error", "ename": "E", "evalue": "bad", "traceback": ["\x1b[0;31mred\x1b[0m\x1b]0;x\x07"],
    }  # fmt: skip
    written(world, with_outputs(shown, page, error, {"output_type": "stream", "text": "x" * 100_000}))
    (cell,) = world.worker("notebook_read", path="made.ipynb", outputs=True)["cells"]
    figure_line, page_line = cell["outputs"][1], cell["outputs"][2]
    assert cell["outputs"][0] == "<Figure>"
    assert figure_line.startswith("[image/png: 5592")
    assert page_line.startswith("[text/html: ")
    assert cell["outputs"][3] == "E: bad\nred"
    assert len(cell["outputs"][4]) == 2001
    assert cell["cut"]


def test_one_cell_always_fits(world: World) -> None:
    """However long its source: the next page begins behind it."""
    cells = [{**NOTEBOOK["cells"][1], "source": "\x01" * 1_000_000}, NOTEBOOK["cells"][1]]
    written(world, {**NOTEBOOK, "cells": cells})
    found = world.worker("notebook_read", path="made.ipynb")
    assert found["cells"][0]["cut"]
    assert found["cells"][0]["source"].startswith("\x01")
    assert world.worker("notebook_read", path="made.ipynb", first=1)["cells"][0]["source"] == "# Study"


STYLES = {
    "jupyter": json.dumps(NOTEBOOK, indent=1) + "\n",
    "four": json.dumps(NOTEBOOK, indent=4),
    "tabs": json.dumps(NOTEBOOK, indent="\t"),
    "compact": json.dumps(NOTEBOOK, separators=(",", ":")),
    "windows": (json.dumps(NOTEBOOK, indent=1) + "\n").replace("\n", "\r\n"),
    "mark": "\ufeff" + json.dumps(NOTEBOOK, indent=1),
    "odd": '{ "x" : 1e2 , "nbformat":4,"cells" :[ {"cell_type":"raw","source":"\\u00e9","y":{"b":1.10,"a":[ ]}}\n ] , '
    '"nbformat_minor":4, "metadata":{"z":"\\/"} }  ',
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("at", [0, 1, None])
def test_every_other_byte_stays(world: World, style: str, at: int | None) -> None:
    """Unknown fields, the order of keys, numbers and escapes as they were written, line ends, a byte order mark."""
    text, path = STYLES[style], world.root / "made.ipynb"
    path.write_bytes(text.encode())
    source = 'a = "ü"\n\tb'
    added = world.worker("notebook_add_cell", path="made.ipynb", source=source, at=at)
    after = path.read_bytes().decode()
    before, found = (json.loads(each.removeprefix("\ufeff")) for each in (text, after))
    place = len(before["cells"]) if at is None else at
    new = found["cells"].pop(place)
    assert found == before
    assert "".join(new["source"]) == source
    assert ("id" in new) == (before["nbformat_minor"] >= 5)
    assert new.get("id") == added.get("id")
    assert added["cells"] == len(before["cells"]) + 1
    assert common(text, after) + common(text[::-1], after[::-1]) >= len(text)


def test_a_cell_looks_as_its_neighbours_do(world: World) -> None:
    """As Jupyter would have written it, also in a notebook without cells."""
    world.worker("notebook_add_cell", path="study.ipynb", source="x = 1\ny", type="code")
    text = (world.root / "study.ipynb").read_text()
    assert text == json.dumps(json.loads(text), indent=1) + "\n"
    for indent in (1, 2, None):
        path = written(world, {**NOTEBOOK, "cells": []}, indent=indent)
        world.worker("notebook_add_cell", path="made.ipynb", source="x", type="markdown")
        assert len(json.loads(path.read_text())["cells"]) == 1
        if indent:
            assert path.read_text() == json.dumps(json.loads(path.read_text()), indent=indent)


def test_a_notebook_is_made_and_added_to(world: World) -> None:
    """Valid by its schema's rules: version 4.5, an id to each cell, outputs of code only. Nothing is overwritten."""
    cells = [{"type": "markdown", "source": "# A\nb"}, {"source": "print(1)"}, {"type": "raw", "source": ""}]
    made = world.worker("notebook_create", path="made.ipynb", cells=cells)
    assert made["undo"]
    found = json.loads((world.root / "made.ipynb").read_text())
    assert (found["nbformat"], found["nbformat_minor"]) == (4, 5)
    assert [sorted(each) for each in found["cells"]] == [
        ["cell_type", "id", "metadata", "source"],
        ["cell_type", "execution_count", "id", "metadata", "outputs", "source"],
        ["cell_type", "id", "metadata", "source"],
    ]
    assert len({each["id"] for each in found["cells"]}) == 3
    read = world.worker("notebook_read", path="made.ipynb")["cells"]
    assert [each["source"] for each in read] == [each["source"] for each in cells]
    assert "already" in world.worker.refusal("notebook_create", path="made.ipynb", cells=[])


def test_a_change_is_undone(world: World) -> None:
    """To the byte, as a change of any other file is."""
    path = world.root / "study.ipynb"
    before = path.read_bytes()
    answer = world.worker.answer("notebook_add_cell", {"path": "study.ipynb", "source": "x"})
    assert path.read_bytes() != before
    assert [each[0] for each in answer["effects"]] == ["study.ipynb"]
    world.worker.send({"id": 10_000, "undo": answer["result"]["undo"]})
    assert world.worker.receive()["result"]["restored"] == ["study.ipynb"]
    assert path.read_bytes() == before


CELL = '{"cell_type":"code","source":""}'
HOSTILE = [
    ('{"cells":[],"nbformat":3}', "version 4"),
    ('{"worksheets":[{"cells":[]}],"nbformat":3}', "version 4"),
    ('{"nbformat":4}', "version 4"),
    ('{"cells":{},"nbformat":4}', "no [ at"),
    ('{"cells":[],"cells":[],"nbformat":4}', "there twice"),
    ('{"cells":[1],"nbformat":4}', "cell 0"),
    ('{"cells":[{"source":""}],"nbformat":4}', "cell 0"),
    (f'{{"cells":[{CELL},],"nbformat":4}}', "a comma"),
    (f'{{"cells":[{CELL}],"nbformat":4}} {{}}', "behind its end"),
    (f'{{"cells":[{CELL}],"nbformat":4,"x":NaN}}', "NaN"),
    ('{"cells":[' + "[" * 100_000, "nested"),
    ('{"cells":[' + "1" * 10_000 + '],"nbformat":4}', "no JSON"),
    ('{"cells":[', "no JSON"),
    ("", "no JSON"),
    ("[]", "no JSON"),
    (b'{"cells":[],"nbformat":4,"x":"\xff"}', "not UTF-8 at byte"),
    (f'{{"cells":[{CELL}],"nbformat":4}}\0', "behind its end"),
]


@pytest.mark.parametrize(("text", "said"), HOSTILE)
def test_what_is_no_notebook_is_refused_and_left_alone(world: World, text: str | bytes, said: str) -> None:
    """With the place; the file stays as it was."""
    path, data = world.root / "made.ipynb", text if isinstance(text, bytes) else text.encode()
    path.write_bytes(data)
    assert said in world.worker.refusal("notebook_read", path="made.ipynb")
    assert said in world.worker.refusal("notebook_add_cell", path="made.ipynb", source="x")
    assert path.read_bytes() == data


def test_other_fields_than_expected_are_no_fault(world: World) -> None:
    """Sources, outputs and ids of wrong types are shown as nothing; half a character as its escape."""
    odd = {"cell_type": "code", "source": 5, "outputs": [1, {"data": 2}, {"text": [3]}], "id": 7}
    half = '{"cell_type":"markdown","source":["\\ud800",1]}'
    text = json.dumps({**NOTEBOOK, "cells": [odd]}).replace('}], "metadata', "}," + half + '], "metadata')
    (world.root / "made.ipynb").write_text(text)
    first, second = world.worker("notebook_read", path="made.ipynb", outputs=True)["cells"]
    assert first == {"number": 0, "type": "code", "source": ""}
    assert second["source"] == "\\ud800"


def test_places_outside_and_wrong_numbers_are_refused(world: World) -> None:
    """As of every file; the twin is the test above."""
    cells: list[dict[str, Any]] = [{"source": "x"}]
    for arguments, said in (
        ({"path": "../made.ipynb", "cells": cells}, "outside"),
        ({"path": ".git/made.ipynb", "cells": cells}, "not written by tools"),
        ({"path": "made.py", "cells": cells}, "ends in .ipynb"),
    ):
        assert said in world.worker.refusal("notebook_create", **arguments)
    assert "from 0" in world.worker.refusal("notebook_add_cell", path="study.ipynb", source="x", at=3)
    (world.root / "link.ipynb").symlink_to("study.ipynb")
    assert "a link" in world.worker.refusal("notebook_add_cell", path="link.ipynb", source="x")
    with (world.root / "big.ipynb").open("wb") as file:
        file.truncate((32 << 20) + 1)
    assert "at most" in world.worker.refusal("notebook_read", path="big.ipynb")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.dictionaries(st.text(max_size=5).filter(lambda key: key != "cells"), VALUES, max_size=4),
    st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=3), max_size=3),
    st.sampled_from([None, 1, 2, "\t"]),
    st.integers(0, 3),
)
def test_any_notebook_keeps_all_but_its_new_cell(
    members: dict[str, Any], cells: list[dict[str, Any]], indent: Any, at: int
) -> None:
    """Read by the places, changed, and read by the standard library."""
    cells = [{**cell, "cell_type": "code"} for cell in cells]
    before = {**members, "cells": cells, "nbformat": 4}
    read = notebook_text.read(json.dumps(before, indent=indent).encode(), "x")
    place = min(at, len(cells))
    found = json.loads(notebook_text.with_cell(read, place, {"new": [1, "ü\n"]}))
    assert found["cells"].pop(place) == {"new": [1, "ü\n"]}
    assert found == before
