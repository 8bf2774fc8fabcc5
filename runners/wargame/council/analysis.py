"""Parse an analyst's reply as a whole: claims with citations, and the reconciling one's account of each citation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from runners.wargame import wellformed
from runners.wargame.council.citations import Citation

Fate = Literal["kept", "merged", "rejected"]
MAX_CLAIMS: Final = 12

_CITATION: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["id", "name"],
    "properties": {"id": {"type": "string", "maxLength": 16}, "name": {"type": "string", "maxLength": 120}},
}
_CLAIM: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["text", "techniques", "evidence"],
    "properties": {
        "text": {"type": "string", "maxLength": 600},
        "techniques": {"type": "array", "maxItems": 6, "items": _CITATION},
        "evidence": {"type": "string", "maxLength": 200},
    },
}
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["claims"],
    "properties": {"claims": {"type": "array", "maxItems": MAX_CLAIMS, "items": _CLAIM}},
}
RECONCILED_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["claims", "citations"],
    "properties": {
        "claims": SCHEMA["properties"]["claims"],
        "citations": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["id", "fate", "into", "reason"],
                "properties": {
                    "id": {"type": "string", "maxLength": 16},
                    "fate": {"enum": ["kept", "merged", "rejected"]},
                    "into": {"type": "string", "maxLength": 16},
                    "reason": {"type": "string", "maxLength": 200},
                },
            },
        },
    },
}


class AnalysisError(ValueError):
    """An analyst's reply is no analysis."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Holds one statement, its citations, and its grounds."""

    text: str
    techniques: tuple[Citation, ...]
    evidence: str


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Holds the reconciling analyst's account of a citation."""

    technique_id: str
    fate: Fate
    into: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Analysis:
    """Holds all of one reply."""

    claims: tuple[Claim, ...]
    whereabouts: tuple[Whereabouts, ...] = ()

    @property
    def citations(self) -> dict[str, Citation]:
        """By id, as first named."""
        found: dict[str, Citation] = {}
        for claim in self.claims:
            for citation in claim.techniques:
                found.setdefault(citation.technique_id, citation)
        return found


@dataclass(frozen=True, slots=True)
class Trace:
    """Traces every citation of the first two analysts: counted by code, not by the third one's account."""

    given: tuple[str, ...]
    kept: tuple[str, ...]
    merged: tuple[str, ...]
    rejected: tuple[str, ...]
    lost: tuple[str, ...]
    invented: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"citations in {len(self.given)} / kept {len(self.kept)} / merged {len(self.merged)} / "
            f"rejected {len(self.rejected)} / lost {len(self.lost)} / new {len(self.invented)}"
        )


def trace(sources: Sequence[Analysis], reconciled: Analysis) -> Trace:
    """Prove the fate of each citation.

    Kept is a citation only while the text still cites it; a merged one must lead to one that it cites; a rejected one
    needs a reason. Any other is lost.
    """
    given = sorted({technique for source in sources for technique in source.citations})
    cited = reconciled.citations.keys()
    said = {one.technique_id: one for one in reconciled.whereabouts}
    fates: dict[str, list[str]] = {"kept": [], "merged": [], "rejected": [], "lost": []}
    for technique in given:
        fates[_fate(technique, said.get(technique), cited)].append(technique)
    kept, merged, rejected, lost = (tuple(fates[name]) for name in ("kept", "merged", "rejected", "lost"))
    return Trace(tuple(given), kept, merged, rejected, lost, tuple(sorted(cited - set(given))))


def _fate(technique: str, said: Whereabouts | None, cited: Iterable[str]) -> str:
    if technique in cited:
        return "kept"
    if said is not None and said.fate == "merged" and said.into in cited:
        return "merged"
    if said is not None and said.fate == "rejected" and said.reason.strip():
        return "rejected"
    return "lost"


def read(text: str) -> Analysis:
    """Read a reply whole. Raises AnalysisError."""
    try:
        value = wellformed.loads(text)
        claims = tuple(_claim(entry) for entry in value["claims"])
        whereabouts = tuple(_whereabouts(entry) for entry in value.get("citations", ()))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise AnalysisError(f"no analysis: {error!r}: {text[:120]!r}") from error
    if not 1 <= len(claims) <= MAX_CLAIMS:
        raise AnalysisError(f"has {len(claims)} claims; 1 to {MAX_CLAIMS} are wanted")
    return Analysis(claims, whereabouts)


def _claim(entry: Mapping[str, Any]) -> Claim:
    techniques = tuple(Citation(_text(t["id"]), _text(t["name"])) for t in entry["techniques"])
    return Claim(_text(entry["text"]), techniques, _text(entry["evidence"]))


def _whereabouts(entry: Mapping[str, Any]) -> Whereabouts:
    fate = entry["fate"]
    if fate not in {"kept", "merged", "rejected"}:
        raise ValueError(f"fate {fate!r}")
    return Whereabouts(_text(entry["id"]), fate, _text(entry.get("into", "")), _text(entry.get("reason", "")))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
