"""REPORT.md: the story of why, for whoever opens the bundle. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Story:
    """Holds everything the report tells.

    Chain links and transitions are as `epactl explain` and `epactl phase` show them.
    """

    sentence: str
    at: str
    facts: Mapping[str, Any]
    transitions: Sequence[Mapping[str, Any]] = ()
    chain: Sequence[Mapping[str, Any]] = ()
    saved: Sequence[str] = ()
    lost: Sequence[str] = ()


def render_report(story: Story) -> str:
    """Render the story as Markdown: timeline, anomalies, attempts, saved and lost data."""
    return "\n".join((*_head(story), *_timeline(story), *_told(story), *_kept(story), *_next_steps())) + "\n"


def _head(story: Story) -> Iterator[str]:
    yield from ("# LIFEBOAT", "", f"Entered at {story.at}: {story.sentence}.", "")
    yield from ("## State at that time", "")
    yield from (f"- {name}: {value}" for name, value in story.facts.items())


def _timeline(story: Story) -> Iterator[str]:
    yield from ("", "## Timeline", "", "| when | from | to | rule | why |", "|---|---|---|---|---|")
    for t in story.transitions:
        yield f"| {t['at']} | {t['source']} | {t['destination']} | {t['guard']} | {t['sentence']} |"


def _told(story: Story) -> Iterator[str]:
    tried = ("step", "result")
    yield from ("", "## What was found", "")
    yield from (_line(link) for link in story.chain if link["kind"] not in tried)
    yield from ("", "## What was tried", "")
    yield from (_line(link) for link in story.chain if link["kind"] in tried)


def _kept(story: Story) -> Iterator[str]:
    yield from ("", "## What is saved", "", *(f"- {line}" for line in story.saved or ("nothing",)))
    yield from (
        "",
        "## What is lost",
        "",
        *(f"- {line}" for line in story.lost or ("nothing that is known of",)),
    )


def _next_steps() -> Iterator[str]:
    yield from ("", "## What to do", "")
    yield "Fix the cause. Then `epactl lifeboat relaunch --reason TEXT` where the daemon still runs; or, with the"
    yield "daemon dead, `epactl lifeboat relaunch --from BUNDLE --state DIR --reason TEXT`, DIR empty or not, and start"
    yield "epad. Files and their hashes are in MANIFEST.json and SHA256SUMS beside this report."


def _line(link: Mapping[str, Any]) -> str:
    return f"- {link['at']} {link['kind']} ({link['id']}): {link['text']}"
