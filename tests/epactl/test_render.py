"""Answers as text: exact lines for fixed values, and nothing that a terminal would obey."""

from __future__ import annotations

import pytest
from fake_operations import FakeOperations, gpu, status, subsystem
from hypothesis import given
from hypothesis import strategies as st

from epad.answers.decisions import Explanation, Link
from epad.answers.orders import Result
from epad.answers.status import Incident, Sentence
from epad.epactl import render
from epad.epactl.render import Style
from epad.epactl.top import screen

TABLE = (
    "NAME     STATE        PID   FOR    RESTARTS  MEMORY              CPU  PROGRESS  TOKENS  "
    "BUDGET                HOLD\n"
    "chat     running      4242  1h02m  0         3.0 GiB of 4.0 GiB  25%  4/100     12k     "
    "1500/6000 per minute  -\n"
    "wargame  quarantined  4242  1h02m  0         3.0 GiB of 4.0 GiB  25%  4/100     12k     "
    "1500/6000 per minute  freeze: three refusals"
).splitlines()

GONE = "gone for 5s: it broke off; epad looks at it every second until it is back"


def test_a_whole_status() -> None:
    """The operator's first look: phase, time in it, why, what is wrong, who is held, and the rest."""
    assert render.status_lines(status()) == [
        "QUARANTINE for 1m01s: one subsystem misbehaves",
        "  anomaly token_burn/wargame for 1m00s: three refusals in a row",
        "",
        *TABLE,
        "embedded models: not an LLM",
        "",
        "ledger   34 records, ok",
        "probes   1 of 2 see; blind: vram",
        "gateway  http://127.0.0.1:8700",
        "models   0 of 1 upstreams answer; served from here: local by chat",
        f"         local at http://127.0.0.1:11434: {GONE}",
        "budget   all: <$0.01/$5.00 per day",
        "metrics  off",
        "page     off",
        "engine   plain: told by walking",
        "epad     0.1.0, pid 77, up 1d01h",
        "note: no NVIDIA driver",
    ]


def test_victims_stand_under_their_root() -> None:
    """One line each; a root that has taken nobody along is told by its anomaly alone."""
    shown: Incident = {
        "root": "model",
        "reason": "it ended with signal SIGKILL",
        "age_seconds": 5.0,
        "victims": ["agent", "writer"],
        "settled": True,
        "flapping": True,
    }
    alone: Incident = {**shown, "root": "web", "victims": [], "flapping": False}
    assert render.incident_lines([alone, shown]) == [
        "  root model for 5s, flapping: it ended with signal SIGKILL",
        "    victim agent",
        "    victim writer",
    ]


def test_nothing_is_said_of_embedded_models_where_there_are_none() -> None:
    """The line stands exactly where it is true."""
    lines = render.status_lines(status(subsystems=[subsystem("chat")]))
    assert render.NOT_AN_LLM not in lines
    assert render.NOT_AN_LLM in "".join(render.subsystem_lines(subsystem("chat", embedded=True), []))


def test_a_wall_that_is_missing_stands_in_red() -> None:
    """Under a line that says how each is confined."""
    confine = {"profile": "workspace", "missing": {"network": "no user namespace"}, "trouble": ""}
    shown = status(
        subsystems=[subsystem("chat", confine={**confine, "missing": {}}), subsystem("a", confine=confine)]
    )
    lines = render.status_lines(shown, render.Style(colour=True))
    at = lines.index("walls    workspace: chat, a")
    assert lines[at + 1].startswith("\x1b[31m         a: without walls: network (no user namespace)")


def test_a_daemon_without_subsystems_has_a_status() -> None:
    """An empty table says so."""
    assert "no subsystems" in render.status_lines(status(subsystems=[], anomalies=[]))


def test_one_subsystem_in_full() -> None:
    """Everything about one, its own anomalies among it."""
    chosen = subsystem(
        "wargame",
        state="hung",
        hung=True,
        essential=True,
        pid=None,
        state_seconds=None,
        progress=None,
        confine={"profile": "workspace", "missing": {}, "trouble": ""},
    )
    assert render.subsystem_lines(chosen, status()["anomalies"]) == [
        "wargame: hung",
        "  kind      process, essential",
        "  pid       -",
        "  for       -",
        "  restarts  0",
        "  memory    3.0 GiB of 4.0 GiB in 2 processes; CPU 25%, 12 s in all",
        "  status    round 4",
        "  progress  -",
        "  tokens    12000 in, 345 out",
        "  turns     17",
        "  budget    1500/6000 per minute",
        "  hold      -",
        "  walls     confined: workspace",
        "  log       /state/logs/chat.log",
        "  anomaly token_burn/wargame for 1m00s: three refusals in a row",
    ]
    assert len(render.subsystem_lines(subsystem("chat"), status()["anomalies"])) == 14


def test_an_event_is_one_line() -> None:
    """Id, time, kind, subsystem, fields; nothing of a text breaks the line."""
    operations = FakeOperations()
    operations.happen("turn.refused", "chat", code="budget_exceeded", note="two\nlines", tokens=7)
    assert render.event_line(operations.stored[0]) == (
        "     1  2026-01-01T00:00:00.000+00:00  turn.refused chat"
        "  code=budget_exceeded note=two?lines tokens=7"
    )


async def test_an_explanation_shows_the_chain_with_its_ids() -> None:
    """Each link with the id that joins it to events and logs, and its evidence below."""
    lines = render.explain_lines(await FakeOperations().explain("wargame"))
    assert lines == [
        "began 2026-01-01T00:00:00.000+00:00: too many",
        "decided 2026-01-01T00:00:00.000+00:00: NORMAL -> QUARANTINE",
        "",
        "why: wargame",
        "  2026-01-01T00:00:00.000+00:00  finding  too many  [anomaly-1]",
        '      value=5 evidence={"by": "a b"}',
        "  2026-01-01T00:00:00.000+00:00  rule     NORMAL -> QUARANTINE  [transition-1]",
    ]


def test_an_empty_explanation_says_so() -> None:
    """No chain is an answer too."""
    assert render.explain_lines({"subject": "chat", "chain": []}) == ["chat: nothing was decided"]


async def test_the_phase_with_its_history() -> None:
    """From where to where, by which trigger and guard, and because of what."""
    lines = render.phase_lines(await FakeOperations().phase())
    assert lines[0] == "QUARANTINE since 2026-01-01T00:00:00+00:00: one subsystem misbehaves"
    assert lines[2].split() == ["ID", "AT", "TRANSITION", "TRIGGER", "BECAUSE"]
    assert "NORMAL -> QUARANTINE  isolate [troubled]  one subsystem misbehaves" in lines[3]


def test_the_result_of_an_order() -> None:
    """What came of it, and the phase it left; an order about the whole host needs no name."""
    done: Result = {"subsystem": "chat", "phase": "NORMAL", "failed": False, "results": ["1 step(s) done"]}
    assert render.result_lines(done) == ["chat: 1 step(s) done", "phase: NORMAL"]
    short: Result = {"phase": "LIFEBOAT", "results": []}  # type: ignore[typeddict-item]  # shown all the same
    assert render.result_lines(short) == ["host: done", "phase: LIFEBOAT"]


@given(st.text(), st.text(), st.text())
def test_nothing_that_a_child_says_reaches_the_terminal_as_a_command(one: str, two: str, three: str) -> None:
    """No control character of a name, a status or a reason is printed, so no line can be forged."""
    named = subsystem(one or "x", status=two, hold={"rung": "block", "reason": three})
    shown = status(subsystems=[named], sentence=two, notices=[three])
    shown["anomalies"][0]["reason"] = one
    shown["incidents"] = [
        {
            "root": two,
            "reason": one,
            "age_seconds": 1.0,
            "victims": [three],
            "settled": True,
            "flapping": True,
        }
    ]
    for line in [*render.status_lines(shown), *render.subsystem_lines(named, shown["anomalies"])]:
        assert line.isprintable()


def test_a_gpu_is_one_line_with_its_owners() -> None:
    """And its forecast and errors, where there are any."""
    busy = gpu(
        "0",
        foreign_bytes=600 << 20,
        unattributed_bytes=300 << 20,
        exhaustion_seconds=90,
        xids={"79": "2026-01-01T00:00:00+00:00"},
    )
    assert (
        "GPU 0 NVIDIA GeForce RTX 5070: 6400 MiB of 12227 MiB (52%), chat 5000 MiB, others 600 MiB, "
        "nobody's 300 MiB, full in 90s at this rate, Xid 79 at 2026-01-01T00:00:00+00:00"
    ) in render.status_lines(status(gpus=[busy]))


def test_an_old_figure_of_a_gpu_is_said_to_be_old_first() -> None:
    """Nobody reads to the end of a line to learn that its number is worth nothing."""
    lines = render.status_lines(status(gpus=[gpu("0", fresh=False, age_seconds=42.4)]))
    (line,) = [line for line in lines if line.startswith("GPU")]
    assert line.startswith("GPU 0 NVIDIA GeForce RTX 5070: not readable; 42s ago 6400 MiB")


def test_colours_only_when_asked_for() -> None:
    """The same text either way, apart from the colours."""
    coloured = "\n".join(render.status_lines(status(), Style(colour=True)))
    assert "\x1b[33mQUARANTINE\x1b[0m" in coloured
    for code in ("\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m"):
        coloured = coloured.replace(code, "")
    assert [line.rstrip() for line in coloured.split("\n")] == render.status_lines(status())


SENTENCE: Sentence = {
    "who": "wargame", "what": "is frozen", "since": "17:16", "why": "three refusals", "do": "epactl release wargame",
    "until": "lets go by itself at 17:18:31 if it stays quiet", "line": "wargame is frozen since 17:16: and so on\x07",
}  # fmt: skip


def test_what_is_held_is_told_with_its_end_in_the_table_and_in_full_by_name() -> None:
    """One line: who, why, until when, and the command; nothing of it is obeyed by the terminal."""
    held = subsystem("wargame", hold={"rung": "freeze", "reason": "three refusals"}, sentence=SENTENCE)
    (row,) = [line for line in render.status_lines(status(subsystems=[held])) if line.startswith("wargame")]
    assert row.endswith("freeze: three refusals; lets go by itself at 17:18:31 if it stays quiet")
    assert "  hold      wargame is frozen since 17:16: and so on?" in render.subsystem_lines(held, [])
    background = render.subsystem_lines({**held, "background": True}, [])
    assert background[1].endswith(", in the background")


async def test_an_explanation_begins_with_what_is_true_now_and_has_evidence_only_if_asked() -> None:
    """What a person is told at three in the morning is the first line; JSON is for those who want it."""
    told = await FakeOperations().explain("wargame")
    told["summary"] = [SENTENCE]
    step: Link = {
        "kind": "step",
        "id": "step-1",
        "at": "now",
        "text": "hold wargame freeze",
        "fields": {"arguments": {"reason": "it loops", "wave": 0}},
    }
    told["chain"] = [*told["chain"], step]
    plain = render.explain_lines(told, evidence=False)
    assert plain[0] == "wargame is frozen since 17:16: and so on?"
    assert plain[1].startswith("decided 2026-01-01")
    assert plain[2:4] == ["", "why: wargame"]
    assert not any("{" in line for line in plain)
    assert "hold wargame freeze: it loops  [step-1]" in plain[-1]
    assert any('evidence={"by": "a b"}' in line for line in render.explain_lines(told))
    assert render.explain_lines({"subject": "chat", "chain": [], "summary": [SENTENCE]}) == plain[:1]


def _result(number: int, state: str) -> Link:
    text = f"hold chat{number}: {state} after 1 attempt(s)"
    return {"kind": "result", "id": f"step-{number}", "at": "then", "text": text, "fields": {"state": state}}


@pytest.mark.parametrize("troubles", [0, 1, 3, 4, 40])
@pytest.mark.parametrize("states", ["", "done", "done pending failed"])
async def test_the_summary_has_five_lines_at_most(troubles: int, states: str) -> None:
    """However much is wrong; and what is left out is counted."""
    told = await FakeOperations().explain("wargame")
    told["summary"] = [SENTENCE] * troubles
    told["chain"] = [*told["chain"], *(_result(n, state) for n, state in enumerate(states.split()))]
    lines = render.explain_lines(told)
    summary = lines[: lines.index("")]
    assert summary == render.explain_summary(told)
    assert len(summary) <= 5
    shown = summary.count("wargame is frozen since 17:16: and so on?")
    left_out = [line for line in summary if line.endswith("more: epactl status")]
    assert left_out == ([f"and {troubles - shown} more: epactl status"] if shown < troubles else [])
    assert any(line.startswith("began ") for line in summary) == (troubles == 0)
    steps = [line for line in summary if "step(s) done" in line]
    assert (
        steps
        == {
            "": [],
            "done": ["1 of 1 step(s) done"],
            "done pending failed": [
                "1 of 3 step(s) done; not done: hold chat1: pending after 1 attempt(s) (and 1 more)"
            ],
        }[states]
    )


def test_a_decision_that_nothing_led_to_is_told_once() -> None:
    """It is no beginning of itself; without a chain there is neither."""
    rule: Link = {
        "kind": "rule",
        "id": "transition-2",
        "at": "then",
        "text": "QUARANTINE -> NORMAL",
        "fields": {},
    }
    told: Explanation = {"chain": [rule]}  # type: ignore[typeddict-item]  # a summary needs no subject
    assert render.explain_summary(told) == ["decided then: QUARANTINE -> NORMAL"]
    told["chain"] = []
    assert render.explain_summary(told) == []


def test_top_folds_a_long_sentence_so_that_its_end_is_read() -> None:
    """The way out stands at the end, where a narrow terminal would cut it off."""
    lines = screen(status(sentence="why " * 30 + "epactl release chat"), [], (80, 40))
    assert any(line.endswith("epactl release chat") for line in lines)
    assert all(len(line) <= 80 for line in lines)
