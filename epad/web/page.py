"""Compose the pages from their parts: pure functions of the daemon's answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from epad.answers.confinement import Approvals
from epad.answers.decisions import Event, Link, Transition
from epad.answers.status import ServedUpstream, Status, Subsystem
from epad.formatting import amounts as limits
from epad.formatting.text import duration
from epad.operations.registry import MAX_REASON_CHARACTERS, Operation
from epad.web.approvals import approvals_form, questions_panel
from epad.web.graph import dependency_graph
from epad.web.history import anomaly_list, chain, event_table, incident_list, transition_list
from epad.web.html import Html, document, join, tag
from epad.web.ladder import phase_ladder
from epad.web.subsystems import subsystem_detail, subsystem_table
from epad.web.token_field import token_field
from epad.web.tools import tool_list
from epad.web.vram import gpu_list

PAGE_ORDERS = (Operation.QUARANTINE, Operation.RELEASE)
"""What can be ordered from the page."""


@dataclass(frozen=True, slots=True)
class Overview:
    """Holds the contents of the first page."""

    status: Status
    transitions: Sequence[Transition]
    events: Sequence[Event]
    approvals: Approvals


@dataclass(frozen=True, slots=True)
class Questions:
    """Holds the contents of the page that answers questions. `token_file` is empty if the page only shows."""

    status: Status
    approvals: Approvals
    token_file: str = ""
    notices: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Detail:
    """Holds the contents of one subsystem's page. `token_file` is empty if the page only shows."""

    status: Status
    subsystem: Subsystem
    links: Sequence[Link]
    reports: Sequence[str] = ()
    token_file: str = ""
    notices: Sequence[str] = field(default=())


def overview_page(view: Overview) -> bytes:
    """Return the first page."""
    phase = view.status["phase"]
    return _page(f"{phase} · epad", view.status, overview_main(view), live="/main")


def overview_main(view: Overview) -> Html:
    """Return the part of the first page that changes; the script fetches it anew when something happens."""
    status = view.status
    victims = {name for incident in status["incidents"] for name in incident["victims"]}
    graph = dependency_graph(status["subsystems"], victims)
    questions = questions_panel(view.approvals)
    return join(
        phase_ladder(status),
        _section("Trouble", *_trouble(status)),
        _section("Questions", questions) if questions else None,
        _section("Subsystems", subsystem_table(status["subsystems"]), graph),
        _section("Tools", tool_list(status["tools"])) if status.get("tools") else None,
        _section("GPU memory", gpu_list(status["gpus"])) if status["gpus"] else None,
        _section("Daemon", _daemon(status)),
        _section("Transitions", transition_list(view.transitions)),
        _section("Events", event_table(view.events)),
    )


def _trouble(status: Status) -> tuple[Html | None, Html | None]:
    """Incidents, then anomalies; an incident that has no anomaly any more is trouble enough."""
    incidents = incident_list(status["incidents"])
    calm = incidents is not None and not status["anomalies"]
    return incidents, None if calm else anomaly_list(status["anomalies"])


def approvals_page(view: Questions) -> bytes:
    """Return the page that answers questions; it does not change by itself."""
    main = join(
        _way_back(),
        tag("h2", "Hosts that subsystems ask for", class_="title"),
        _notices(view.notices),
        approvals_form(view.approvals, view.token_file),
    )
    return _page("Approvals · epad", view.status, main)


def detail_page(view: Detail) -> bytes:
    """Return the page of one subsystem."""
    name = view.subsystem["name"]
    anomalies = [a for a in view.status["anomalies"] if a["subsystem"] == name]
    main = join(
        _way_back(),
        tag("h2", name, class_="title"),
        _notices(view.notices),
        _section("Now", anomaly_list(anomalies), subsystem_detail(view.subsystem)),
        _section("Reports", _reports(name, view.reports)) if view.reports else None,
        _section("Why", chain(view.links)),
        _section("Orders", _orders(view)),
    )
    return _page(f"{name} · epad", view.status, main)


def error_page(status: int, message: str) -> bytes:
    """Render a refusal, with the fix."""
    main = join(tag("h2", f"{status}"), tag("p", message), _way_back())
    return document(_head(f"{status} · epad"), tag("body", tag("main", main)))


def _way_back() -> Html:
    return tag("p", tag("a", "← everything", href="/"))


def _notices(notices: Sequence[str]) -> Html:
    return join([tag("p", notice, class_="notice", role="status") for notice in notices])


def _page(title: str, status: Status, main: Html, live: str = "") -> bytes:
    body = tag(
        "body",
        tag("a", "to the content", href="#main", class_="skip"),
        tag(
            "header",
            tag("h1", tag("a", "epad", href="/")),
            tag("p", str(status["version"])),
            tag("p", "live", class_="pulse", hidden=True, id="pulse", role="status"),
        ),
        tag("main", main, id="main", tabindex=-1, data_live=live or None),
        tag("script", src="/live.js", defer=True) if live else None,
    )
    return document(_head(title), body)


def _head(title: str) -> Html:
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("link", rel="stylesheet", href="/style.css"),
        tag("link", rel="icon", href="data:,"),
    )


def _section(title: str, *parts: Html | None) -> Html:
    anchor = title.lower().replace(" ", "-")
    return tag("section", tag("h2", title, id=anchor), parts, aria_labelledby=anchor)


def _daemon(status: Status) -> Html:
    """Render ledger, probes, gateway, upstreams, and the notes for a person."""
    ledger, blind = status["ledger"], [p["name"] for p in status["probes"] if not p["success"]]
    sees = f"{len(status['probes']) - len(blind)} of {len(status['probes'])} see"
    terms: list[tuple[str, str]] = [
        ("Ledger", f"{ledger['records']:,} records, {ledger['verdict']} {ledger['detail']}".rstrip()),
        ("Probes", sees + (f"; blind: {', '.join(blind)}" if blind else "")),
        ("Gateway", status["gateway"]["url"] or "off"),
        ("Metrics", status["metrics"]["url"] or "off"),
        ("Daemon", f"pid {status['pid']}, up {duration(status['uptime_seconds'])}"),
    ]
    if any(s["spent_microusd"] for s in status["subsystems"]):
        terms.append(("Money spent", _money(status["subsystems"])))
    terms += [(f"Model {u['name']}", _health(u)) for u in status["upstreams"]]
    notes = tag("ul", (tag("li", notice) for notice in status["notices"]), class_="notes")
    return join(
        tag("dl", ((tag("dt", term), tag("dd", value)) for term, value in terms), class_="facts"),
        notes if status["notices"] else None,
    )


def _money(subsystems: Sequence[Subsystem]) -> str:
    """Format the cost of all so far, and of each that has cost anything."""
    spent = {s["name"]: s["spent_microusd"] for s in subsystems if s["spent_microusd"]}
    each = ", ".join(f"{name} {limits.dollars(amount)}" for name, amount in spent.items())
    return f"{limits.dollars(sum(spent.values()))} in all: {each}"


def _health(upstream: ServedUpstream) -> str:
    return f"{upstream['url']} " + ("answers" if upstream["healthy"] else f"does not: {upstream['reason']}")


def _reports(name: str, reports: Sequence[str]) -> Html:
    links = {report: quote(report, errors="surrogateescape") for report in reports}
    return tag(
        "ul",
        (
            tag("li", tag("a", text, href=f"/subsystems/{name}/reports/{link}"))
            for text, link in links.items()
        ),
    )


def _orders(view: Detail) -> Html:
    """Forms where orders are allowed; the command that does the same where they are not."""
    name = view.subsystem["name"]
    if not view.token_file:
        command = tag("code", f"epactl quarantine {name} --reason …")
        return tag("p", "This page only shows. On the command line: ", command)
    fields = (
        tag(
            "label",
            "Reason",
            tag("input", name="reason", required=True, maxlength=MAX_REASON_CHARACTERS, autocomplete="off"),
        ),
        token_field(view.token_file),
    )
    buttons = (tag("button", order, name="order", value=order, type="submit") for order in PAGE_ORDERS)
    return tag("form", fields, tag("p", buttons), method="post", action=f"/subsystems/{name}/orders")
