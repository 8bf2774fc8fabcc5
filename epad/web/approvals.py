"""Show the hosts and tools that subsystems ask for, and the approvals that hold: a list, and a form that answers.

The form stands on a page of its own, which does not change by itself: on the first page a question that ends would
move the next one under the pointer that was to answer it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TypeVar

from epad.answers.confinement import Approvals, HostQuestion, StandingApproval, StandingConsent, ToolQuestion
from epad.formatting.footprints import size
from epad.formatting.text import duration
from epad.operations.registry import MAX_REASON_CHARACTERS
from epad.web.approval_form import Verb, button_value
from epad.web.html import Html, join, tag
from epad.web.token_field import token_field

QuestionT = TypeVar("QuestionT", HostQuestion, ToolQuestion)
MOST_PAST = 20
"""Questions that nobody answered in time are shown up to this many, the newest."""
_OPEN = "open"
_ANSWERED = frozenset({"allowed", "denied"})
_BUTTONS = (
    (Verb.ONCE, "Approve once"),
    (Verb.HOUR, "Approve for 1 h"),
    (Verb.ALWAYS, "Approve always"),
    (Verb.DENY, "Deny"),
)
_TOOL_BUTTONS = (
    (Verb.ONCE, "Approve once"),
    (Verb.TEN_MINUTES, "Approve for 10 min"),
    (Verb.DENY, "Deny"),
)


def questions_panel(approvals: Approvals) -> Html | None:
    """Render the open questions and the number of approvals, with the way to answer; None without either."""
    waiting = [one for one in approvals["questions"] if one["state"] == _OPEN]
    calls = [one for one in approvals["tool_questions"] if one["state"] == _OPEN]
    held = len(approvals["standing"]) + len(approvals["tool_standing"])
    if not waiting and not calls and not held:
        return None
    word = "Answer them" if waiting or calls else "All questions and approvals"
    tables = []
    if waiting:
        rows = (_question_row(one, None) for one in waiting)
        tables.append(_table("open questions", _QUESTION_HEADS, rows))
    if calls:
        rows = (_call_row(one, None) for one in calls)
        tables.append(_table("open questions about tools", _CALL_HEADS, rows))
    return join(
        join(*tables) if tables else tag("p", "No question is open.", class_="calm"),
        tag(
            "p",
            f"{_approvals_hold(held)} ",
            tag("a", word, href="/approvals"),
            class_="more",
        ),
    )


def approvals_form(approvals: Approvals, token_file: str) -> Html:
    """Render every question that can be answered and every approval that holds; with buttons, if there is a token."""
    questions = list(_answerable(approvals["questions"]))
    asked = _table(
        "questions", (*_QUESTION_HEADS, "Answer"), (_question_row(one, token_file) for one in questions)
    )
    held = _table(
        "approvals", _STANDING_HEADS, (_standing_row(one, token_file) for one in approvals["standing"])
    )
    lists = join(
        _section("Questions", asked if questions else tag("p", "No question is open.", class_="calm")),
        *_tool_sections(approvals, token_file),
        _section(
            "Approvals", held if approvals["standing"] else tag("p", "No approval holds.", class_="calm")
        ),
    )
    if not token_file:
        command = tag("code", "epactl approve NUMBER --for once|1h|always")
        return join(tag("p", "This page only shows. On the command line: ", command), lists)
    return tag("form", _fields(token_file), lists, method="post", action="/approvals")


def _tool_sections(approvals: Approvals, token_file: str) -> Iterable[Html]:
    """Render the questions about tools and the consents, if there are any."""
    if calls := list(_answerable(approvals["tool_questions"])):
        rows = (_call_row(one, token_file) for one in calls)
        yield _section("Tools", _table("questions about tools", (*_CALL_HEADS, "Answer"), rows))
    if approvals["tool_standing"]:
        rows = (_consent_row(one, token_file) for one in approvals["tool_standing"])
        yield _section("Consents", _table("consents", _CONSENT_HEADS, rows))


def _answerable(questions: Sequence[QuestionT]) -> Iterable[QuestionT]:
    """Yield the open questions, the oldest first, then those that nobody answered in time, the newest first."""
    yield from (one for one in questions if one["state"] == _OPEN)
    past = (one for one in reversed(questions) if one["state"] not in {_OPEN, *_ANSWERED})
    yield from islice(past, MOST_PAST)


def _fields(token_file: str) -> Html:
    """Render the fields of the form, behind a button that cannot be pressed.

    Enter in a field presses the first button of a form: here it must answer no question.
    """
    return join(
        tag("button", "nothing", type="submit", disabled=True, hidden=True),
        token_field(token_file),
        tag(
            "label",
            "Reason (needed for always)",
            tag("input", name="reason", maxlength=MAX_REASON_CHARACTERS, autocomplete="off"),
        ),
    )


_QUESTION_HEADS = ("Question", "Subsystem", "Host", "Program", "Waits", "Bytes so far", "Policy")
_STANDING_HEADS = ("Subsystem", "Host", "Holds", "Why", "Bytes so far", "End it")
_CALL_HEADS = ("Question", "Subsystem", "Call", "Arguments", "Waits", "For a time it covers")
_CONSENT_HEADS = ("Subsystem", "Tool", "Covers", "Holds", "Why", "End it")


def _question_row(one: HostQuestion, token_file: str | None) -> Html:
    """Render a question. The buttons are left out without a token; their column, if it is None."""
    place = f"{one['host']}:{one['port']}"
    cells: list[tuple[str, Html | str]] = [
        ("Subsystem", tag("a", one["subsystem"], href=f"/subsystems/{one['subsystem']}")),
        ("Host", tag("strong", place)),
        ("Program", one["program"] or "not known"),
        ("Waits", _waits(one)),
        ("Bytes so far", _bytes(one)),
        ("Policy", _why_asked(one)),
    ]
    if token_file is not None:
        words = f"{one['subsystem']} to {place}"
        buttons = [
            _button(text, button_value(verb, one["subsystem"], place, one["number"]), words)
            for verb, text in _BUTTONS
        ]
        cells.append(("Answer", join(*buttons) if token_file else "-"))
    return _row(str(one["number"]), cells)


def _why_asked(one: HostQuestion) -> str:
    """Say how an approval would widen the policy, or what the session has read."""
    if one["labels"]:
        return one["asks"].partition("; ")[2]
    return "; ".join(one["widens"]) or "names it by now"


def _standing_row(one: StandingApproval, token_file: str) -> Html:
    place = f"{one['host']}:{one['port']}"
    value, words = button_value(Verb.REVOKE, one["subsystem"], place), f"{one['subsystem']} to {place}"
    left = one["left_seconds"]
    holds = "always" if left is None else f"for {duration(left)} more"
    cells: list[tuple[str, Html | str]] = [
        ("Host", tag("strong", place)),
        ("Holds", f"for the next connection, {holds}" if one["once"] else holds),
        ("Why", one["reason"] or "-"),
        ("Bytes so far", _bytes(one)),
        ("End it", _button("Revoke", value, words) if token_file else "-"),
    ]
    return _row(tag("a", one["subsystem"], href=f"/subsystems/{one['subsystem']}"), cells)


def _call_row(one: ToolQuestion, token_file: str | None) -> Html:
    """Render a question about a tool. The buttons are left out without a token; their column, if it is None."""
    cells: list[tuple[str, Html | str]] = [
        ("Subsystem", tag("a", one["subsystem"], href=f"/subsystems/{one['subsystem']}")),
        ("Call", tag("strong", one["asks"])),
        ("Arguments", tag("code", one["arguments"])),
        ("Waits", _waits(one)),
        ("For a time it covers", f"{one['tool']} {one['covers']}"),
    ]
    if token_file is not None:
        words = f"{one['subsystem']}: {one['asks']}"
        buttons = [
            _button(text, button_value(verb, one["subsystem"], one["mark"], one["number"]), words)
            for verb, text in _TOOL_BUTTONS
        ]
        cells.append(("Answer", join(*buttons) if token_file else "-"))
    return _row(str(one["number"]), cells)


def _consent_row(one: StandingConsent, token_file: str) -> Html:
    value = button_value(Verb.REVOKE, one["subsystem"], str(one["number"]))
    holds = f"for {duration(one['left_seconds'])} more"
    cells: list[tuple[str, Html | str]] = [
        ("Tool", tag("strong", one["tool"])),
        ("Covers", "the call that was shown" if one["once"] else one["covers"]),
        ("Holds", f"for one call, {holds}" if one["once"] else holds),
        ("Why", one["reason"] or "-"),
        ("End it", _button("Revoke", value, f"{one['subsystem']}: {one['tool']}") if token_file else "-"),
    ]
    return _row(tag("a", one["subsystem"], href=f"/subsystems/{one['subsystem']}"), cells)


def _waits(one: HostQuestion | ToolQuestion) -> str:
    """Say how long a question waits still, and how often the same was asked for."""
    tries = f", asked {one['tries']} times" if one["tries"] > 1 else ""
    if one["state"] == _OPEN:
        return f"{duration(one['left_seconds'])} more{tries}"
    return f"no more ({one['state']} {duration(one['asked_seconds_ago'])} ago){tries}"


def _bytes(one: HostQuestion | StandingApproval) -> str:
    return f"{_amount(one['sent_bytes'])} sent, {_amount(one['received_bytes'])} received"


def _amount(number: int) -> str:
    if number >= 1 << 20:
        return size(number)
    return f"{number} B" if number < 1 << 10 else f"{number / (1 << 10):.1f} KiB"


def _approvals_hold(count: int) -> str:
    return f"{count} approval holds." if count == 1 else f"{count} approvals hold."


def _button(text: str, value: str, words: str) -> Html:
    return tag("button", text, name="answer", value=value, type="submit", aria_label=f"{text}: {words}")


def _row(head: Html | str, cells: Sequence[tuple[str, Html | str]]) -> Html:
    return tag(
        "tr",
        tag("th", head, scope="row"),
        (tag("td", tag("span", cell), data_label=label) for label, cell in cells),
    )


def _table(label: str, heads: Sequence[str], rows: Iterable[Html]) -> Html:
    return tag(
        "div",
        tag(
            "table",
            tag("thead", tag("tr", (tag("th", head, scope="col") for head in heads))),
            tag("tbody", rows),
        ),
        class_="scroll approvals",
        tabindex=0,
        role="group",
        aria_label=label,
    )


def _section(title: str, *parts: Html) -> Html:
    anchor = title.lower()
    return tag("section", tag("h2", title, id=anchor), parts, aria_labelledby=anchor)
