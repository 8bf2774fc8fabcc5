"""`embedded-council-analyst`: picks techniques by key words. It shows how a council runs, and understands nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

from runners.model.engine import Message, last_user_text

_FINDING: Final = re.compile(r"<finding>\s*(.*?)\s*</finding>", re.DOTALL)
_ANALYSES: Final = re.compile(r"<analyses>\s*(\{.*\})\s*</analyses>", re.DOTALL)
_BY_WORD: Final = (
    (r"instruction|ignore|assistant|rules|orders", "AML.T0051", "LLM Prompt Injection"),
    (r"remember|policy|notes|entry|glossary", "T1565", "Data Manipulation"),
    (r"after the|friday|once|whenever|counter", "T1053", "Scheduled Task/Job"),
    (r"password|credential|sign-in|code|pass", "T1552", "Unsecured Credentials"),
    (r"administrator|director|desk|colleague", "T1656", "Impersonation"),
)
_NOTHING: Final = ("AML.T0054", "LLM Jailbreak")


class CouncilAnalyst:
    """Plays all three analysts: the marks in the question say which."""

    name = "embedded-council-analyst"

    def reply(self, messages: Sequence[Message], seed: int) -> str:
        del seed  # a word is there or not
        text = last_user_text(messages)
        marked = _ANALYSES.search(text)
        return json.dumps(_reconcile(marked[1]) if marked else _analyse(text))


def _analyse(text: str) -> dict[str, Any]:
    finding = _FINDING.search(text)
    words = (finding[1] if finding else text).lower()
    found = [(number, name) for pattern, number, name in _BY_WORD if re.search(pattern, words)] or [_NOTHING]
    # Red names what it sees, blue all but the first: so that there is something to reconcile.
    named = found if "red analyst" in text else found[1:] or found
    return {"claims": [_claim(number, name) for number, name in named]}


def _claim(number: str, name: str) -> dict[str, Any]:
    return {
        "text": f"The wording fits {name}.",
        "techniques": [{"id": number, "name": name}],
        "evidence": "key words of the finding",
    }


def _reconcile(analyses: str) -> dict[str, Any]:
    try:
        claims = [claim for one in json.loads(analyses).values() for claim in one["claims"]]
        cited = {t["technique_id"]: t["name"] for claim in claims for t in claim["techniques"]}
    except (ValueError, KeyError, TypeError, AttributeError):
        cited = {}
    kept = [{"id": number, "fate": "kept", "into": "", "reason": ""} for number in cited]
    return {"claims": [_claim(*pair) for pair in cited.items()], "citations": kept}
