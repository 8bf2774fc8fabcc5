"""`epactl ledger` without a daemon: verify, show, export, size, head, prove, and a stranger's check of the proof."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
from ledger_world import closing, fill, open_ledger, opening, places
from patience import PATIENCE_SECONDS
from trimmed_world import TURNS as MANY
from trimmed_world import trimmed_ledger

from epad.epactl import main
from epad.epactl.commands.ledger import bar
from epad.ledger.entry import CloseTurn
from epad.ledger.record import Outcome, UsageSource
from epad.simulate.recorder import RECORDING_SCHEMA
from epad.storage.database import Database
from epad.storage.event_log import EVENT_SCHEMA, EventKind, EventLog
from statemachine.clock import ManualClock

CHECKER = Path(__file__).parents[3] / "docs/check_inclusion.py"
TURNS = 6
RECORDS = 1 + 2 * TURNS


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger of closed turns, closed itself; sealed in part."""
    directory = tmp_path_factory.mktemp("state")
    asyncio.run(fill(directory / "ledger.db", TURNS, places(directory / "ledger.db"), seal_records=5))
    return directory


@pytest.fixture
def trimmed(tmp_path: Path) -> Path:
    """A ledger that has let bodies go."""
    asyncio.run(trimmed_ledger(tmp_path / "ledger.db"))
    return tmp_path


def run(state: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main.main(["ledger", *words, "--state", str(state)])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize("how", [[], ["--full"], ["--segments"]])
def test_a_whole_ledger_verifies(state: Path, capsys: pytest.CaptureFixture[str], how: list[str]) -> None:
    """By rows, by everything, by segments: 0, and nothing said beside the answer."""
    status, out, err = run(state, capsys, "verify", *how)
    assert (status, err) == (0, "")
    assert out.splitlines()[1].startswith("OK: ")
    status, out, _ = run(state, capsys, "verify", *how, "-o", "json")
    assert json.loads(out)["words"] == "OK"


async def test_a_truncation_is_1_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The verdict has its number, and the reader is told what to do."""
    import apsw  # noqa: PLC0415

    path = tmp_path / "ledger.db"
    await fill(path, 3, places(path))
    connection = apsw.Connection(str(path))
    connection.execute("DELETE FROM record WHERE seq > 5")
    connection.close()
    status, out, _ = await asyncio.to_thread(run, tmp_path, capsys, "verify")
    assert status == 1
    assert "TRUNCATED(2): 5 checked" in out
    assert "docs/ledger.md" in out


def test_verify_takes_one_way_at_a_time(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Full includes the segments, so both is a mistake."""
    assert run(state, capsys, "verify", "--full", "--segments")[0] == 2


def test_show_lists_the_newest_or_one_in_full(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Oldest first; one record with all its fields; none is 4."""
    status, out, _ = run(state, capsys, "show", "--last", "3")
    assert status == 0
    assert [int(line.split()[0]) for line in out.splitlines()] == [RECORDS - 2, RECORDS - 1, RECORDS]
    status, out, _ = run(state, capsys, "show", "2", "-o", "json")
    shown = json.loads(out)
    assert (shown["kind"], shown["subsystem"], shown["output_cap"]) == ("opened", "chat", 60)
    assert run(state, capsys, "show", "2")[1].startswith("seq ")
    assert run(state, capsys, "show", "99")[0] == 4


def test_export_is_one_json_object_a_record(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of them, in order."""
    status, out, _ = run(state, capsys, "export")
    lines = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [line["seq"] for line in lines] == list(range(1, RECORDS + 1))
    assert {line["kind"] for line in lines} == {"epoch", "opened", "closed"}


async def test_export_as_spans_names_what_otel_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One span a turn: done, failed with its reason, refused without an opening, and still open."""
    ledger = await open_ledger(tmp_path / "ledger.db")
    await ledger.open_turn(opening(1))
    await ledger.close_turn(closing(1))
    await ledger.open_turn(opening(2))
    failed = CloseTurn(opening(2).turn, "chat", Outcome.FAILED, 5, 0, 5, UsageSource.COUNTED, 502, "timeout")
    await ledger.close_turn(failed)
    refused = CloseTurn(opening(3).turn, "chat", Outcome.REFUSED, 0, 0, 0, UsageSource.COUNTED, 402, "budget")
    await ledger.close_turn(refused)
    await ledger.open_turn(opening(4))
    await ledger.close()

    status, out, _ = await asyncio.to_thread(run, tmp_path, capsys, "export", "--format", "otel")
    spans = [json.loads(line) for line in out.splitlines()]
    attributes = [span["attributes"] for span in spans]
    assert status == 0
    assert [a["epad.outcome"] for a in attributes] == ["done", "failed", "refused", "open"]
    assert attributes[0]["gen_ai.operation.name"] == "chat"
    assert attributes[0]["gen_ai.request.model"] == "embedded-lexical-defender"
    assert attributes[0]["gen_ai.usage.input_tokens"] == 20
    assert attributes[0]["gen_ai.usage.output_tokens"] == 10
    assert attributes[1]["error.type"] == "timeout"
    assert attributes[2]["http.response.status_code"] == 402
    assert "gen_ai.request.model" not in attributes[2]
    assert spans[3]["end_time_unix_nano"] is None


def test_head_shows_what_was_signed(state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Size, root, link and time; where there is none, 4."""
    status, out, _ = run(state, capsys, "head", "-o", "json")
    assert status == 0
    assert json.loads(out)["size"] == RECORDS
    asyncio.run(fill(tmp_path / "ledger.db", 1))
    assert run(tmp_path, capsys, "head")[0] == 4
    assert run(tmp_path, capsys, "prove", "1")[0] == 4


def check(proof: dict[str, object], tmp_path: Path) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "proof.json"
    path.write_text(json.dumps(proof))
    command = [sys.executable, "-I", "-S", str(CHECKER), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)


@pytest.mark.parametrize("sequence", [1, 2, 8, RECORDS - 1, RECORDS])
def test_a_stranger_can_check_a_proof(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], sequence: int
) -> None:
    """With the script of the documents and nothing but Python's own library; any change is caught."""
    status, out, _ = run(state, capsys, "prove", str(sequence))
    proof = json.loads(out)
    assert status == 0
    done = check(proof, tmp_path)
    assert (done.returncode, done.stdout[:7]) == (0, "PROVED:"), done.stderr

    body = bytearray(base64.b64decode(proof["body"]))
    body[-1] ^= 1
    for change in (
        {"body": base64.b64encode(body).decode()},
        {"leaf": bytes(32).hex(), "body": None},
        {"path": proof["path"][:-1]},
        {"path": [*proof["path"], bytes(32).hex()]},
        {"path": [bytes(32).hex(), *proof["path"][1:]]},
        {"seq": sequence + 1 if sequence < RECORDS else 1},
        {"head": proof["head"].replace(f"\n{RECORDS}\n", f"\n{RECORDS + 4}\n")},
    ):
        done = check(proof | change, tmp_path)
        assert done.returncode != 0, change


def test_the_checker_is_as_short_as_it_says() -> None:
    """Thirty lines, or nobody reads it before they believe it."""
    assert len(CHECKER.read_text().splitlines()) <= 30


def test_what_is_not_signed_is_not_proved(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A record that no head speaks of yet."""
    status, _, err = run(state, capsys, "prove", "999")
    assert status == 4
    assert "999" in err


def test_the_bar_is_as_long_as_what_is_done() -> None:
    """Empty at the end, so that nothing is left standing under the answer."""
    assert bar(0, 10, "records") == f"[{'.' * 30}]   0 %  0 of 10 records"
    assert bar(5, 10, "records").startswith(f"[{'#' * 15}{'.' * 15}]  50 %")
    assert bar(10, 10, "records") == ""


async def test_what_is_kept_is_told_with_its_number_its_beginning_and_its_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the ledger, its second copy, events and recordings."""
    path = tmp_path / "ledger.db"
    await fill(path, TURNS, places(path), seal_records=5)
    clock = ManualClock()
    database = Database(tmp_path / "state.db", EVENT_SCHEMA + RECORDING_SCHEMA)
    await database.open()
    events = EventLog(database, clock)
    events.emit(EventKind.NOTICE, text="one")
    events.emit(EventKind.NOTICE, text="two")
    await events.flush()
    await database.close()
    status, out, err = await asyncio.to_thread(run, tmp_path, capsys, "size", "-o", "json")
    assert (status, err) == (0, "")
    told = {one["what"].partition(" (")[0]: one for one in json.loads(out)}
    began = clock.utc().isoformat(timespec="seconds")
    assert (told["records"]["number"], told["records"]["since"]) == (RECORDS, began)
    assert told["records"]["bytes"] >= path.stat().st_size
    segments = list(places(path).segments.glob("*.seg"))
    assert told["second copy of them"]["bytes"] == sum(each.stat().st_size for each in segments)
    assert (told["events"]["number"], told["events"]["since"]) == (2, began)
    assert (told["recordings for simulate"]["number"], told["recordings for simulate"]["since"]) == (0, "")
    status, out, _ = await asyncio.to_thread(run, tmp_path, capsys, "size")
    assert f"records (ledger.db) {RECORDS:>27}" in out
    assert began in out


def test_without_state_db_the_ledger_is_told_alone(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As in a bundle that somebody copied; one that is no database is said to be none."""
    status, out, _ = run(state, capsys, "size")
    assert (status, "state.db" in out) == (0, False)
    (state / "state.db").write_bytes(b"nonsense" * 1_000)
    status, out, err = run(state, capsys, "size")
    (state / "state.db").unlink()
    assert (status, out) == (4, "")
    assert "state.db" in err


def test_what_is_not_kept_is_said_to_be_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trimmed: Path
) -> None:
    """A record of which only the hash is kept is no damage; a sum that lacks it says so."""
    status, out, err = run(trimmed, capsys, "show", "3")
    assert (status, err) == (0, "")
    assert "trimmed" in out
    assert "[ledger] keep_records" in out
    status, out, _ = run(trimmed, capsys, "verify", "--full")
    assert status == 0
    assert "no longer kept beyond their hashes" in out
    status, out, _ = run(trimmed, capsys, "size")
    assert "of older records, the hashes alone" in out
    status = main.main(["usage", "--since", "2000-01-01", "--state", str(trimmed)])
    out, err = capsys.readouterr()
    assert status == 0
    assert "are not in this: [ledger] keep_records let them go" in err
    assert f" {MANY} " not in out
