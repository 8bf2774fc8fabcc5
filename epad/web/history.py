"""Render the history: present troubles, transitions, the chain of reasons, the newest events."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from epad.answers.decisions import Event, Link, Transition
from epad.answers.status import Anomaly, Incident
from epad.formatting.text import duration
from epad.web.html import Html, join, tag

FIELD_CHARACTERS = 200


def anomaly_list(anomalies: Sequence[Anomaly]) -> Html:
    """Render the present anomalies, the gravest first."""
    if not anomalies:
        return tag("p", "Nothing is wrong.", class_="calm")
    grave_first = sorted(anomalies, key=lambda a: a["severity"] != "critical")
    return tag(
        "ul",
        (
            tag(
                "li",
                tag("strong", a["severity"], class_="severity"),
                " ",
                tag("a", a["subsystem"], href=f"/subsystems/{a['subsystem']}") if a["subsystem"] else "host",
                f" · {a['probe']} · {duration(a['age_seconds'])}",
                tag("span", a["reason"], class_="reason"),
                class_=f"anomaly {a['severity']}",
            )
            for a in grave_first
        ),
        class_="anomalies",
    )


def incident_list(incidents: Sequence[Incident]) -> Html | None:
    """Render each root with its victims; only the root needs mending. None if no root has victims."""
    if not incidents:
        return None
    return tag("ul", (_incident(incident) for incident in incidents), class_="incidents")


def _incident(incident: Incident) -> Html:
    names = [tag("a", name, href=f"/subsystems/{name}") for name in incident["victims"]]
    victims = [part for name in names for part in (", ", name)][1:] or ["nobody"]
    return tag(
        "li",
        tag("strong", "root "),
        tag("a", incident["root"], href=f"/subsystems/{incident['root']}"),
        f" · {duration(incident['age_seconds'])}{' · flapping' if incident['flapping'] else ''}",
        tag("span", incident["reason"], class_="reason"),
        tag("span", "took along: ", victims, class_="victims"),
    )


def transition_list(transitions: Sequence[Transition]) -> Html:
    """Render the transitions that led to the phase, newest first."""
    if not transitions:
        return tag("p", "No transition so far.", class_="calm")
    rows = (
        (clock_time(row["at"]), f"{row['source']} → {row['destination']}", row["trigger"], row["sentence"])
        for row in reversed(transitions)
    )
    return table(("At", "Transition", "Trigger", "Because"), rows, "transitions")


def chain(links: Sequence[Link]) -> Html:
    """Why: finding, anomaly, rule, step, result, each with the id that joins it to events and logs."""
    if not links:
        return tag("p", "Nothing was decided about it.", class_="calm")
    return tag(
        "ol",
        (
            tag(
                "li",
                tag("span", link["kind"], class_="kind"),
                clock_time(link["at"]),
                tag("span", link["text"], class_="reason"),
                tag("code", link["id"]),
            )
            for link in links
        ),
        class_="chain",
    )


def event_table(events: Sequence[Event]) -> Html:
    """Return the newest events, newest first."""
    rows = (
        (clock_time(event["at"]), event["kind"], event["subsystem"] or "-", _fields(event["fields"]))
        for event in reversed(events)
    )
    return table(("At", "What", "Subsystem", "Fields"), rows, "events")


def table(heads: Sequence[str], rows: Any, label: str) -> Html:
    """Return a table that scrolls by itself where it is wider than the page, from the keyboard too."""
    return tag(
        "div",
        tag(
            "table",
            tag("thead", tag("tr", (tag("th", head, scope="col") for head in heads))),
            tag(
                "tbody",
                (
                    tag(
                        "tr",
                        (tag("td", cell, data_label=head) for head, cell in zip(heads, row, strict=True)),
                    )
                    for row in rows
                ),
            ),
            class_=label,
        ),
        class_="scroll",
        tabindex=0,
        role="group",
        aria_label=label,
    )


def clock_time(at: str) -> Html:
    """Return a UTC stamp: the time of day to read, the whole of it for machines and on hovering."""
    return tag("time", at[11:19] + "Z" if len(at) > 19 else at, datetime=at, title=at)


def _fields(fields: Mapping[str, Any]) -> Html:
    return join(
        tag("span", f"{key}=", tag("b", _cut(value)), " ")
        for key, value in fields.items()
        if value not in (None, "", [], {})
    )


def _cut(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= FIELD_CHARACTERS else text[:FIELD_CHARACTERS] + "…"
