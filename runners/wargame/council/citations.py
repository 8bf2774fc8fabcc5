"""Citations of attack techniques: looked up by id and by name, never mended in silence.

An id that exists says little: of one published record set most cited an existing id of another technique.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any, Final

from runners.wargame import wellformed

TECHNIQUE_ID: Final = re.compile(r"(AML\.)?T\d{4}(\.\d{3})?")
_WORDS: Final = re.compile(r"[a-z0-9]+")


class IndexFileError(Exception):
    """The technique index cannot be read."""


class Status(StrEnum):
    """Grades a citation."""

    VALID = "valid"
    UNKNOWN = "unknown"
    REVOKED = "revoked"
    NAME_MISMATCH = "name_mismatch"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class Technique:
    """Holds one entry of the index."""

    technique_id: str
    name: str
    revoked: bool = False
    replaced_by: str = ""


@dataclass(frozen=True, slots=True)
class Citation:
    """A technique as an analyst named it."""

    technique_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Checked:
    """Holds a citation, its status, and the index's own entry."""

    citation: Citation
    status: Status
    note: str = ""


@dataclass(frozen=True, slots=True)
class Index:
    """The techniques of one version of ATT&CK and ATLAS."""

    version: str
    techniques: Mapping[str, Technique]

    def check(self, citation: Citation) -> Checked:
        """Look one citation up."""
        if not TECHNIQUE_ID.fullmatch(citation.technique_id):
            return Checked(citation, Status.MALFORMED, "an id is T1234, T1234.001 or AML.T0001")
        known = self.techniques.get(citation.technique_id)
        if known is None:
            return Checked(citation, Status.UNKNOWN, f"not in {self.version}")
        if known.revoked:
            return Checked(citation, Status.REVOKED, f"replaced by {known.replaced_by or 'nothing'}")
        if not _same_name(citation.name, known.name):
            return Checked(citation, Status.NAME_MISMATCH, f"that id is {known.name!r}")
        return Checked(citation, Status.VALID)


def _same_name(said: str, known: str) -> bool:
    """The same words; ATT&CK writes a sub-technique's parent before a colon, which may be there or not."""
    heard = _WORDS.findall(said.lower())
    return _WORDS.findall(known.lower()) in (heard, _WORDS.findall(said.lower().rpartition(":")[2]))


def load_index(path: Path | None = None) -> Index:
    """Read a STIX bundle, or ids and names like the shipped ones, as TOML or JSON. Raises IndexFileError."""
    try:
        if path is None:
            text = (resources.files("runners.wargame.council") / "index.toml").read_text(encoding="utf-8")
            return _from_table(tomllib.loads(text))
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".toml":
            return _from_table(tomllib.loads(text))
        value = wellformed.loads(text)
        return _from_stix(value, path.name) if "objects" in value else _from_table(value)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise IndexFileError(f"{path}: no technique index: {error!r}") from error


def _from_table(value: Mapping[str, Any]) -> Index:
    entries = (
        Technique(t["id"], t["name"], bool(t.get("revoked")), t.get("replaced_by", ""))
        for t in value["techniques"]
    )
    return _index(str(value["version"]), entries)


def _from_stix(bundle: Mapping[str, Any], name: str) -> Index:
    patterns = [o for o in bundle["objects"] if o.get("type") == "attack-pattern"]
    ids = {o["id"]: found for o in patterns if (found := _external_id(o))}
    replaced = {
        o["source_ref"]: ids.get(o["target_ref"], "")
        for o in bundle["objects"]
        if o.get("type") == "relationship" and o.get("relationship_type") == "revoked-by"
    }
    entries = (
        Technique(
            ids[o["id"]],
            o["name"],
            bool(o.get("revoked") or o.get("x_mitre_deprecated")),
            replaced.get(o["id"], ""),
        )
        for o in patterns
        if o["id"] in ids
    )
    version = next(
        (o["x_mitre_version"] for o in bundle["objects"] if o.get("type") == "x-mitre-collection"), ""
    )
    return _index(f"{name} {version}".strip(), entries)


def _external_id(pattern: Mapping[str, Any]) -> str:
    references = pattern.get("external_references", ())
    return next(
        (r["external_id"] for r in references if TECHNIQUE_ID.fullmatch(r.get("external_id", ""))), ""
    )


def _index(version: str, entries: Iterable[Technique]) -> Index:
    techniques = {entry.technique_id: entry for entry in entries}
    if not techniques:
        raise ValueError("holds no technique")
    return Index(version, techniques)
