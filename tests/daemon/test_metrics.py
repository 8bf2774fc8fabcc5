"""Every family is declared once, by a room that counts, and the daemon shows them all from its start."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping

from rooms import ROOT

from epad import __version__
from epad.daemon.metrics import FAMILIES, make_metrics

KINDS = {"gauge", "counter", "durations"}


def declared(files: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The file and name of each family that is declared in these."""
    for file, text in files.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS:
                name = node.args[0] if node.args else None
                if isinstance(name, ast.Constant) and str(name.value).startswith("epad_"):
                    yield file, str(name.value)


def faults(files: Mapping[str, str]) -> list[str]:
    """The families that are declared twice, outside of a room's metrics.py, or are shown by no daemon."""
    found = list(declared(files))
    times, shown = Counter(name for _, name in found), {family.name for family in FAMILIES}
    return [
        *(f"{name}: declared {count} times" for name, count in times.items() if count > 1),
        *(f"{file}: {name}: not in metrics.py" for file, name in found if not file.endswith("/metrics.py")),
        *(f"{file}: {name}: not shown" for file, name in found if name not in shown),
    ]


def source() -> dict[str, str]:
    return {str(path.relative_to(ROOT)): path.read_text() for path in (ROOT / "epad").rglob("*.py")}


def test_each_family_is_declared_once_where_it_is_counted() -> None:
    """In the room's metrics.py, and the daemon makes it at its start."""
    assert faults(source()) == []
    assert {name for _, name in declared(source())} == {family.name for family in FAMILIES}
    assert len(FAMILIES) == len({family.name for family in FAMILIES}) > 50


def test_a_planted_family_is_found() -> None:
    """A second of the same name in another room, one beside the code, and one that no daemon shows."""
    plain = 'gauge("epad_ledger_entries", "Records.")'
    assert faults({**source(), "epad/web/metrics.py": plain}) == ["epad_ledger_entries: declared 2 times"]
    assert faults({"epad/ledger/store.py": plain}) == [
        "epad/ledger/store.py: epad_ledger_entries: not in metrics.py"
    ]
    assert faults({"epad/web/metrics.py": 'counter("epad_visits_total", "Visits.")'}) == [
        "epad/web/metrics.py: epad_visits_total: not shown"
    ]


def test_the_version_is_a_label_of_its_own_series() -> None:
    """Joined to others where one needs it."""
    metrics = make_metrics(["chat"])
    assert metrics.registry.get_sample_value("epad_build_info", {"version": __version__}) == 1
    assert metrics.registry.get_sample_value("epad_subsystem_exits_total", {"subsystem": "chat"}) == 0


def test_nobody_makes_series_but_the_registry() -> None:
    """A series of the library's own would be in no declaration."""
    makers = {file for file, text in source().items() if "from prometheus_client" in text}
    assert {file for file in makers if not file.startswith("epad/metrics/")} == set()
