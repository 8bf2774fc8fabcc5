"""The fields that cap an answer, or multiply it, whatever a server calls them, and how a cap is written.

A field that caps the output at any server is taken for one at every server: llama.cpp lets `n_predict` beat
`max_tokens`, others know only one of the two OpenAI names. So every one that is there is cut down to the cap, and one
that the upstream is known to obey is added if none of them is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from epad.configuration.server_kinds import CHAT
from epad.gateway import server_fields
from epad.gateway.dialects.body import JsonObject
from epad.gateway.server_fields import Kind

CAP_NAMES = server_fields.names_of(Kind.CAP, CHAT)
CHOICE_NAMES = server_fields.names_of(Kind.CHOICES, CHAT)
_OPTIONS, _OPTION_CAPS = "options", frozenset(CAP_NAMES)
_BEST_OF = "best_of"


def read_caps(fields: JsonObject) -> dict[str, int]:
    """Return the caps that a request names, by their names.

    Raises RequestError for one that is no whole number.
    """
    there = _OPTION_CAPS.intersection(fields.values)
    if not there:
        return {}
    names = there if len(there) == 1 else [name for name in CAP_NAMES if name in there]
    return {name: value for name in names if (value := fields.read(name, int)) is not None}


def wish_of(given: Mapping[str, int]) -> int | None:
    """Return the wish of a request: the most that any of its caps names; None if that means no limit."""
    wish = max(given.values(), default=0)
    return wish if wish > 0 else None


def cap_edits(given: Mapping[str, int], cap: int, obeyed: Iterable[str]) -> dict[str, bytes]:
    """The cap, where the body does not have it already; `obeyed` are the names that the upstream goes by, if any."""
    written = str(cap).encode()
    edits = {name: written for name, value in given.items() if not 0 < value <= cap}
    obeyed = tuple(obeyed)
    if obeyed and given.keys().isdisjoint(obeyed):
        edits[obeyed[0]] = written
    return edits


def options_of(fields: JsonObject) -> JsonObject | None:
    """Ollama's options, on a route of another dialect: whoever hands the request on to Ollama may pass them on too.

    Raises RequestError for a cap in them that is no whole number.
    """
    if _OPTIONS not in fields.values:
        return None
    options = fields.child(_OPTIONS, _OPTION_CAPS) if fields.begins(_OPTIONS) == b"{" else None
    if options is not None:
        read_caps(options)
    return options


def option_edits(fields: JsonObject, cap: int) -> dict[str, bytes]:
    """Return the options in which no cap is larger than this one, where they are not that already."""
    if _OPTIONS not in fields.values:
        return {}
    options = options_of(fields)
    edits = cap_edits(read_caps(options), cap, ()) if options is not None else {}
    return {_OPTIONS: options.splice(edits)} if options is not None and edits else {}


def hides_choices(fields: JsonObject) -> bool:
    """Say whether only the best of the answers are shown; the others are made all the same."""
    return _BEST_OF in fields.values and fields.has(_BEST_OF)
