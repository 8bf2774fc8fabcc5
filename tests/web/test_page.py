"""The pages as pure functions: what must be on them is on them, and what children say is text."""

from __future__ import annotations

from fake_operations import FakeOperations, gpu, status, subsystem

from epad.web.page import Detail, Overview, detail_page, error_page, overview_page
from statemachine.phase import Phase

EVIL = "<script>alert(1)</script>"


async def overview(**changes: object) -> str:
    operations = FakeOperations()
    operations.happen("turn.refused", "chat", code=EVIL, tokens=7)
    history = (await operations.phase())["history"]
    return overview_page(
        Overview(status(**changes), history, operations.stored, operations.host_approvals)
    ).decode()


async def test_the_ladder_shows_where_we_are() -> None:
    """Every phase in its order, one of them present, with its time and its reason."""
    page = await overview()
    positions = [page.index(f'class="name">{phase}<') for phase in Phase]
    assert positions == sorted(positions)
    assert page.count('aria-current="step"') == 1
    assert "QUARANTINE</strong> for 1m01s: one subsystem misbehaves" in page


async def test_everything_is_told() -> None:
    """Trouble, subsystems with budget and hold, house, transitions, events."""
    page = await overview()
    for text in ("three refusals in a row", "1500/6000 per minute", "34 records", "NORMAL → QUARANTINE"):
        assert text in page
    assert "http://127.0.0.1:11434 does not: it broke off" in page
    assert "vram" in page
    assert "turn.refused" in page


async def test_a_root_and_its_victims() -> None:
    """Whom to mend stands first; whom it took along is told in words and drawn with a dashed border."""
    incident = {
        "root": "model", "reason": "it crashed three times", "age_seconds": 5.0, "victims": ["chat", "wargame"],
        "settled": True, "flapping": True,
    }  # fmt: skip
    page = await overview(
        incidents=[incident],
        subsystems=[subsystem("model", state="failed"), subsystem("chat", depends_on=["model"])],
    )
    assert "5s · flapping" in page
    assert "it crashed three times" in page
    assert 'took along: <a href="/subsystems/chat">chat</a>, <a href="/subsystems/wargame">' in page
    assert "node state-running victim" in page


async def test_gpu_memory_and_money_are_shown_where_there_are_any() -> None:
    """A machine without a card and without prices shows neither."""
    bare = await overview()
    assert "GPU memory" not in bare
    assert "Money" not in bare
    rich = await overview(gpus=[gpu("0")], subsystems=[subsystem("chat", spent_microusd=1_230_000)])
    assert '<polyline points="' in rich
    assert "$1.23 in all: chat $1.23" in rich


async def test_a_calm_daemon_says_so() -> None:
    """An empty page would leave the reader to guess."""
    page = await overview(anomalies=[], subsystems=[], notices=[])
    assert "Nothing is wrong." in page
    assert "No subsystems are configured." in page


async def test_what_a_child_says_is_never_markup() -> None:
    """Reasons, states, names and event fields all come from outside."""
    page = await overview(
        sentence=EVIL,
        subsystems=[
            subsystem(EVIL, state=EVIL, hold={"rung": "freeze", "reason": EVIL}, depends_on=["model"])
        ],
    )
    assert EVIL not in page
    assert "&lt;script&gt;" in page


def detail(**changes: object) -> str:
    one = subsystem("wargame", **changes)
    view = Detail(status(), one, [], ["runs/7/report.html"], notices=["release: done"])
    return detail_page(view).decode()


def test_one_subsystem() -> None:
    """All facts, its own trouble, its reports, and how to order something where the page only shows."""
    page = detail(depends_on=["model"])
    for text in (
        "12,000 in, 345 out",
        "three refusals in a row",
        "/subsystems/wargame/reports/runs/7/report.html",
    ):
        assert text in page
    assert "epactl quarantine wargame" in page
    assert "release: done" in page
    assert "<form" not in page


def test_orders_need_the_token() -> None:
    """Where they are allowed there is a form, and it says where the token is."""
    page = detail_page(Detail(status(), subsystem("chat"), [], token_file="/run/epad/web-token")).decode()
    assert "<form" in page
    assert "/run/epad/web-token" in page


def test_an_error_names_itself() -> None:
    """And leads back."""
    assert "421" in error_page(421, "no").decode()


async def test_who_is_held_is_told_until_when_and_what_ends_it() -> None:
    """In the row and on its own page; a reason is text."""
    sentence = {
        "who": "chat", "what": "is frozen", "since": "17:16", "why": EVIL, "line": "",
        "until": "lets go by itself at 17:18:31", "do": "epactl release chat",
    }  # fmt: skip
    held = subsystem("chat", hold={"rung": "freeze", "reason": "x"}, sentence=sentence, background=True)
    page = await overview(subsystems=[held])
    detail = detail_page(Detail(status(subsystems=[held]), held, [])).decode()
    for text in (page, detail):
        assert "lets go by itself at 17:18:31" in text
        assert "<code>epactl release chat</code>" in text
        assert EVIL not in text
    assert ", in the background" in detail
