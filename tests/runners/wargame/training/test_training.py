"""From a mistake to a row: only real answers, only right lessons, both kinds of mistake, families kept apart."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from wargame_world import LIMITS, Fault, World, content, disk_is_full, play, world

from runners.wargame.cli import main
from runners.wargame.endpoint.client import ModelClient, open_session
from runners.wargame.endpoint.endpoint import Endpoint
from runners.wargame.endpoint.pool import Pool
from runners.wargame.outcomes import VoteKind
from runners.wargame.roles import EMBEDDED_TEACHER, ROLES
from runners.wargame.store import Store
from runners.wargame.training.dpo import Export, Gates, export, validation_families
from runners.wargame.training.teacher import Teacher, mistakes, teach
from runners.wargame.verdict import Verdict, parse

ALL = Gates(include_evaluate=True)
TEACHER = Teacher(EMBEDDED_TEACHER)


async def taught(served: World, path: Path, teacher: Teacher = TEACHER) -> Counter[str]:
    """Ask the teacher about a played store's mistakes."""
    store = Store(path)
    run = store.run()
    assert run is not None
    async with open_session(LIMITS) as session:
        pool = Pool([ModelClient(session, Endpoint("world", served.url), LIMITS, Random(1))])
        counted = await teach(store, run, teacher, pool, LIMITS)
    store.close()
    return counted


def exported(path: Path, gates: Gates = ALL) -> Export:
    store = Store(path, readonly=True)
    run = store.run()
    assert run is not None
    found = export(store, run, gates)
    store.close()
    return found


@pytest.mark.usefixtures("virtual_time")
async def test_every_miss_and_every_false_alarm_is_taught_once(tmp_path: Path) -> None:
    """Both kinds; asked again, there is nothing left to ask."""
    path = tmp_path / "w.db"
    async with world() as served:
        report = await play(served, path, rounds=80)
        wrong = report.swarm.catch.trials - report.swarm.catch.successes + report.swarm.false_alarm.successes
        assert report.swarm.false_alarm.successes > 0
        assert await taught(served, path) == {"ok": wrong}
        assert await taught(served, path) == {}
    store = Store(path, readonly=True)
    run = store.run()
    assert run is not None
    assert mistakes(store, run, Teacher("another")) != []
    store.close()


WRONG: dict[str, tuple[Fault, str]] = {
    "prose": (content("This is an attack."), "invalid:not_json"),
    "empty": (content(""), "error:empty"),
    "always benign": (
        content('{"verdict":"benign","confidence":99,"category":"none","evidence_turn":0}'),
        "wrong_label",
    ),
}


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("fault", WRONG)
async def test_a_teacher_that_is_wrong_teaches_nothing(tmp_path: Path, fault: str) -> None:
    """It is held to the defenders' own parser and to the label; errors may be asked again, wrong ones may not."""
    path = tmp_path / "w.db"
    async with world() as served:
        await play(served, path, rounds=30)
        served.faults = {"*": WRONG[fault][0]}
        counted = await taught(served, path)
    assert counted[WRONG[fault][1]] > 0
    rows = exported(path)
    assert {row.label for row in (*rows.train, *rows.validation)} <= {"benign"}
    assert rows.train == []


@pytest.mark.usefixtures("virtual_time")
async def test_rows_are_real_mistakes_with_the_right_answer(tmp_path: Path) -> None:
    """Rejected is what the model said, chosen states the label, both are verdicts, and they differ."""
    path = tmp_path / "w.db"
    async with world() as served:
        await play(served, path, rounds=120)
        await taught(served, path)
    found = exported(path)
    said = {
        row[0] for row in Store(path, readonly=True).rows("SELECT reply FROM call WHERE purpose = 'sentinel'")
    }
    rows = [*found.train, *found.validation]
    assert len(rows) >= 8
    for row in rows:
        chosen, rejected = parse(row.chosen), parse(row.rejected)
        assert isinstance(chosen, Verdict)
        assert isinstance(rejected, Verdict)
        assert chosen.kind == row.label != rejected.kind
        assert row.metadata["role"] != "sentinel" or row.rejected in said
    for part in (found.train, found.validation):
        assert Counter(row.label for row in part)["attack"] * 2 == len(part)
    assert not {row.family for row in found.train} & {row.family for row in found.validation}
    assert exported(path).train == found.train, "the same store exports the same rows"


@pytest.mark.usefixtures("virtual_time")
async def test_evaluation_families_stay_out_unless_asked_for(tmp_path: Path) -> None:
    """What the headline is measured on must not be trained on by accident; the manifest counts what was held back."""
    path = tmp_path / "w.db"
    async with world() as served:
        await play(served, path, rounds=80)
        await taught(served, path)
    found = exported(path, Gates())
    assert found.held_back["of an evaluation family"] > 0
    strict = exported(path, Gates(max_tokens=10))
    assert strict.train == strict.validation == []
    assert strict.held_back["too long"] > 0


@pytest.mark.usefixtures("virtual_time")
async def test_invalid_replies_go_to_a_file_of_their_own(tmp_path: Path) -> None:
    """DPO on them would teach JSON, not judgement."""
    path = tmp_path / "w.db"
    async with world() as served:
        served.faults = {ROLES[0].model: content("attack, I think")}
        await play(served, path, rounds=40)
        await taught(served, path)
    found = exported(path)
    assert {error["kind"] for error in found.format_errors} == {VoteKind.INVALID}
    assert all(row.metadata["role"] != ROLES[0].name for row in (*found.train, *found.validation))


def test_a_fifth_of_the_families_validates() -> None:
    """At least one of two, none of one, more where one kind of mistake is missing; names decide, not the order."""
    both = [(f"family-{n}", label) for n in range(10) for label in ("attack", "benign")]
    assert len(validation_families(both)) == 2
    assert validation_families(both) == validation_families(reversed(both))
    assert validation_families([("a", "attack")]) == set()
    assert len(validation_families([("a", "attack"), ("b", "benign")])) == 1
    assert len(validation_families((f"family-{n}", "attack") for n in range(10))) == 5


def row(**changes: Any) -> dict[str, Any]:
    verdict = {"confidence": 90, "category": "other", "evidence_turn": 1}
    metadata = {
        "label": "attack",
        "category": "logic_bomb",
        "model_failed": "m",
        "role": "r",
        "prompt_tokens": 9,
    }
    value = {
        "prompt": [{"role": "user", "content": "judge"}],
        "chosen": [{"role": "assistant", "content": json.dumps(verdict | {"verdict": "attack"})}],
        "rejected": [{"role": "assistant", "content": json.dumps(verdict | {"verdict": "benign"})}],
        "metadata": json.dumps(metadata | changes.pop("metadata", {})),
    }
    return value | changes


GOOD = [row(), row(prompt=[{"role": "user", "content": "other"}], metadata={"label": "benign"})]
GOOD[1]["chosen"], GOOD[1]["rejected"] = GOOD[1]["rejected"], GOOD[1]["chosen"]
SAID = [{"role": "assistant", "content": "attack"}]


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (GOOD, ""),
        ([*GOOD, GOOD[0]], ":3: the prompt was there before"),
        (GOOD[:1], "rows of one kind only"),
        ([], "holds no row"),
        ([row(extra=1), GOOD[1]], ":1: has ['chosen', 'extra'"),
        ([row(chosen=SAID), GOOD[1]], "chosen is not a verdict that states the label"),
        ([row(rejected=SAID), GOOD[1]], "rejected is no valid verdict"),
        ([row(rejected=GOOD[0]["chosen"]), GOOD[1]], "chosen and rejected say the same"),
        ([row(prompt=[{"role": "assistant", "content": "x"}]), GOOD[1]], "must end with the user"),
        ([row(prompt=[{"role": "user"}]), GOOD[1]], "every message must have role and content"),
        ([row(prompt="judge?"), GOOD[1]], ":1: prompt: must end its line"),
        ([row(prompt="judge?\n"), GOOD[1]], ""),
        ([row(metadata={"prompt_tokens": 2_000}), GOOD[1]], "a trainer would drop it"),
        ([row(metadata={"engine": "embedded"}), GOOD[1]], "its name does not say so"),
        ([row(metadata={"model_failed": ""}), GOOD[1]], "metadata lacks"),
        ([{"prompt": "x"}, *GOOD], ":1: not a row"),
        ([row(chosen=[]), GOOD[1]], ":1: chosen: empty"),
        ([row(rejected=[]), GOOD[1]], ":1: rejected: empty"),
        ([row(prompt=[]), GOOD[1]], ":1: prompt: empty"),
        ([row(metadata={"prompt_tokens": float("inf")}), GOOD[1]], ":1: not a row: OverflowError"),
        ([row(metadata={"role": []}), GOOD[1]], ""),
        ([row(prompt="half \ud83d\n"), GOOD[1]], ":1: holds half a character"),
    ],
)
def test_check_names_what_a_trainer_would_trip_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[Any], fault: str
) -> None:
    """Each rule with the line that breaks it, and the exit status."""
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    assert main(["dpo", "check", str(path)]) == (1 if fault else 0)
    assert fault in capsys.readouterr().err


def test_check_reads_lines_as_json_ends_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON's text may hold U+2028 and U+0085 as they are; and what is nested too deep is named, not a traceback."""
    path = tmp_path / "train.jsonl"
    rows = [row(prompt="one\u2028two\u0085three\n"), GOOD[1]]
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rows))
    assert main(["dpo", "check", str(path)]) == 0
    path.write_text("[" * 100_000 + "\n")
    assert main(["dpo", "check", str(path)]) == 1
    assert ":1: not a row: RecursionError" in capsys.readouterr().err


def test_from_the_command_line_to_files_that_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run, teach, export, check: embedded rows only on demand, and marked in name, manifest and metadata."""
    store, out = str(tmp_path / "w.db"), tmp_path / "dpo"
    run = ["run", "--rounds", "80", "--store", store, "--quiet", "--control-pairs", "0"]
    assert main(run) == 0
    assert main(["teach", "--store", store]) == 0
    assert main(["dpo", "export", "--store", store, "--out", str(out)]) == 1
    assert "no language model was run" in capsys.readouterr().err
    arguments = ["--include-embedded", "--include-evaluate"]
    assert main(["dpo", "export", "--store", store, "--out", str(out), *arguments]) == 0
    manifest = json.loads((out / "manifest.embedded.json").read_text())
    assert manifest["engine"] == "embedded"
    files = [str(out / f"{part}.embedded.jsonl") for part in ("train", "validation")]
    assert main(["dpo", "check", *files]) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    disk_is_full(monkeypatch)
    export_again = ["dpo", "export", "--store", store, "--out", str(out), *arguments, "--format", "standard"]
    assert main(export_again) == 1
    assert f"--out {out}: [Errno 28]" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
