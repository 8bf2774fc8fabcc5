"""Nine ways in which an endpoint breaks, each in the attacker, in one defender and in all of them."""

from __future__ import annotations

import json
from pathlib import Path

import apsw
import pytest
from wargame_model import MODES, Mode, Model, served

from epad.storage.database import fetch
from runners.wargame.cli import main
from runners.wargame.commands.exits import Exit
from runners.wargame.roles import EMBEDDED_ATTACKER, ROLES

WHO = {
    "the attacker": (EMBEDDED_ATTACKER,),
    "one defender": (ROLES[2].model,),
    "all defenders": tuple(role.model for role in ROLES),
}
ENDS_WITHOUT_AN_ANSWER = {"500", "429", "closed", "html", "hang"}
ROUNDS = 12
QUICK = [
    *("--backoff-seconds", "0.01", "--retries", "1"),
    *(
        "--breaker-failures",
        "4",
        "--pause-first-seconds",
        "0.05",
        "--pause-limit-seconds",
        "0.4",
        "--control-pairs",
        "0",
    ),
]

HANGS = ["--call-seconds", "0.3", "--round-seconds", "2"]
ANSWERS = ["--call-seconds", "30", "--round-seconds", "60"]
"""Where all answer, a slow machine must not make a hung endpoint of a sound one."""


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("mode", MODES)
def test_no_fault_becomes_a_result_and_none_makes_it_hang(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: Mode, who: str
) -> None:
    """It ends or pauses, nothing that a faulty model said is counted, and the exit status is that of no result."""
    model, store = Model(), tmp_path / "w.db"
    model.seconds, model.broken = 0.0, dict.fromkeys(WHO[who], mode)
    with served(model) as url:
        arguments = [
            "run",
            "--rounds",
            str(ROUNDS),
            "--store",
            str(store),
            "--quiet",
        ]
        status = main(
            [*arguments, "--base-url", f"{url}/v1", *QUICK, *(HANGS if mode == "hang" else ANSWERS)]
        )
        model.ended.set()
    capsys.readouterr()
    assert status == (Exit.PAUSED if mode in ENDS_WITHOUT_AN_ANSWER else Exit.NOT_REPORTABLE)
    assert votes_of(store, WHO[who]) <= {"invalid", "error"}
    assert main(["report", "--store", str(store), "--json"]) == Exit.NOT_REPORTABLE
    report = json.loads(capsys.readouterr().out)
    assert report["reportable"] is False
    if who != "one defender":
        assert report["scored"] == 0
        assert report["swarm"]["catch"]["rate"] is None


def votes_of(store: Path, models: tuple[str, ...]) -> set[str]:
    """What became of the broken models' votes; an attacker has none."""
    connection = apsw.Connection(str(store), flags=apsw.SQLITE_OPEN_READONLY)
    rows = fetch(connection, "SELECT DISTINCT model, kind FROM vote")
    connection.close()
    return {kind for name, kind in rows if name in models}
