"""The subsystems: all of them as a table, and one in full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from epad.answers.status import Progress, Subsystem, Use
from epad.formatting import amounts as limits
from epad.formatting import confinement, footprints
from epad.formatting.text import duration
from epad.web.html import Html, join, tag


def subsystem_table(subsystems: Sequence[Subsystem]) -> Html:
    """Render one row a subsystem."""
    if not subsystems:
        return tag("p", "No subsystems are configured.")
    heads = (
        "Name",
        "State",
        "For",
        "Restarts",
        "Memory",
        "CPU",
        "Progress",
        "Tokens",
        "Budget",
        "Walls",
        "Hold",
    )
    return tag(
        "div",
        tag(
            "table",
            tag("thead", tag("tr", (tag("th", head, scope="col") for head in heads))),
            tag("tbody", (_row(subsystem) for subsystem in subsystems)),
        ),
        class_="scroll",
        tabindex=0,
        role="group",
        aria_label="subsystems",
    )


def _row(subsystem: Subsystem) -> Html:
    tokens = subsystem["tokens"]
    cells = (
        ("State", state_chip(subsystem)),
        ("For", duration(subsystem["state_seconds"])),
        ("Restarts", subsystem["restarts"]),
        ("Memory", footprints.memory(subsystem)),
        ("CPU", footprints.cpu(subsystem)),
        ("Progress", progress_bar(subsystem["progress"])),
        ("Tokens", limits.count(tokens.get("input", 0) + tokens.get("output", 0))),
        ("Budget", budget_bar(subsystem["budget"])),
        ("Walls", _walls(subsystem)),
        ("Hold", _hold(subsystem)),
    )
    name = tag("a", subsystem["name"], href=f"/subsystems/{subsystem['name']}")
    return tag(
        "tr",
        tag("th", name, scope="row"),
        (tag("td", tag("span", cell), data_label=label) for label, cell in cells),
    )


def state_chip(subsystem: Subsystem) -> Html:
    """Return the state as a word; its colour says nothing that the word does not."""
    state = "hung" if subsystem["hung"] else subsystem["state"]
    return tag("span", state, class_=f"chip state-{state}")


def progress_bar(progress: Progress | None) -> Html:
    """Render the progress, as a bar if the end is known."""
    if not progress or progress["done"] is None:
        return Html("-")
    done, total = progress["done"], progress["total"]
    if not total:
        return join(done)
    return tag("span", _bar(done, total, "progress"), f" {done}/{total}", class_="measure")


def budget_bar(windows: Mapping[str, Use]) -> Html:
    """Return the fullest budget, as a bar that changes where it becomes tight."""
    limited = {name: w for name, w in windows.items() if w["limit"] and name != limits.IN_FLIGHT}
    if not limited:
        return Html("-")
    fullest = max(limited.values(), key=lambda w: w["used"] / w["limit"])
    bar = _bar(fullest["used"], fullest["limit"], "budget")
    return tag("span", bar, f" {limits.fullest(windows)}", class_="measure")


def _bar(value: int, most: int, kind: str) -> Html:
    """Return a bar as SVG: a `style` attribute would need a policy that lets any style through."""
    share = min(1.0, value / most)
    tight = " full" if share >= 0.999 else " tight" if share >= 0.8 else ""
    return tag(
        "svg",
        tag("rect", width=100, height=8, rx=2, class_="rail"),
        tag("rect", width=f"{100 * share:.1f}", height=8, rx=2, class_="fill"),
        viewBox="0 0 100 8",
        preserveAspectRatio="none",
        class_=f"bar {kind}{tight if kind == 'budget' else ''}",
        aria_hidden="true",
    )


def _hold(subsystem: Mapping[str, Any]) -> Html:
    """Render the hold: its rung, its reason, its end, and the command for that."""
    hold, sentence = subsystem["hold"], subsystem.get("sentence")
    if hold["rung"] == "open":
        return Html("-")
    if not sentence:
        return join(tag("strong", hold["rung"]), " ", hold["reason"])
    since = f" since {sentence['since']}" if sentence["since"] else ""
    words = f"{since}: {sentence['why']}; {sentence['until']}: "
    return join(tag("strong", hold["rung"]), words, tag("code", sentence["do"]))


def _walls(subsystem: Subsystem) -> Html:
    """Say how it is confined; missing walls stand out."""
    amiss = (join(tag("strong", trouble, class_="amiss"), " ") for trouble in confinement.troubles(subsystem))
    return join(confinement.in_a_word(subsystem) or "-", " ", *amiss)


def _flags(subsystem: Mapping[str, Any]) -> str:
    essential = ", essential" if subsystem["essential"] else ""
    return f"{essential}, in the background" if subsystem.get("background") else essential


def subsystem_detail(subsystem: Subsystem) -> Html:
    """Render everything about one subsystem, as a list of terms."""
    tokens = subsystem["tokens"]
    terms: list[tuple[str, Html | str | int]] = [
        ("State", state_chip(subsystem)),
        ("Since", f"{duration(subsystem['state_seconds'])} ago"),
        ("Kind", subsystem["kind"] + _flags(subsystem)),
        ("Process", subsystem["pid"] or "-"),
        ("Restarts", subsystem["restarts"]),
        ("Memory and CPU", footprints.in_full(subsystem)),
        ("Last words", subsystem["status"] or "-"),
        ("Progress", progress_bar(subsystem["progress"])),
        ("Tokens", f"{tokens.get('input', 0):,} in, {tokens.get('output', 0):,} out"),
        ("Turns", f"{tokens.get('turns', 0):,}"),
        *([("Money", limits.dollars(subsystem["spent_microusd"]))] if subsystem["spent_microusd"] else []),
        ("Budget", limits.every(subsystem["budget"])),
        ("Hold", _hold(subsystem)),
        ("Walls", _walls(subsystem)),
        ("Depends on", ", ".join(subsystem["depends_on"]) or "-"),
        ("Log", subsystem["log"] or "-"),
    ]
    return tag("dl", ((tag("dt", term), tag("dd", value)) for term, value in terms), class_="facts")
