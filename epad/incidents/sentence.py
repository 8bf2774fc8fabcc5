"""Word every hold and every trouble as one line: the subject, the reason, the end, and the command.

`epactl status`, `explain` and `top`, the page, systemd's status line, the refused client and a notification all show
these, so none of them words a trouble of its own. Pure: `epad/incidents/report.py` gathers the facts.
"""

from __future__ import annotations

import pwd
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo

from epad.answers import status

NOT_BY_ITSELF = "not by itself"
_ENDS_IT = ("epactl release ", "epactl resume ", "epactl restart ", "epactl phase --force ")
_PEER = re.compile(r"\buid (\d+) \(pid \d+\)")
_PLURAL = (
    ("lets go by itself", "let go by themselves"),
    ("goes on by itself", "go on by themselves"),
    ("if it stays quiet", "if they stay quiet"),
    ("takes it over", "takes them over"),
    ("it waits for", "they wait for"),
    ("whose victim it is", "whose victims they are"),
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """Holds one trouble. Each part is a clause without its full stop, and may be empty but for `who`.

    The verb ("is frozen") is `what`, `since` a time as `moment` writes it, `until` the condition and time of the end,
    `do` the command or the advice. `by_itself` tells if it ends without anyone's action.
    """

    who: str
    why: str
    until: str
    do: str
    what: str = ""
    since: str = ""
    by_itself: bool = True

    @property
    def line(self) -> str:
        """The whole of it, in one line whatever a reason holds: a line more would be a word of its own to systemd."""
        return " ".join(self._text().split())

    def _text(self) -> str:
        head = " ".join(part for part in (self.who, self.what, self.since and f"since {self.since}") if part)
        text = f"{head}: {self.why}" if self.why else head
        if not self.until:
            return f"{text}; {self.do}" if self.do else text
        text += f"; {self.until}"
        if not self.do:
            return text
        if not self.by_itself:
            return f"{text}: {self.do}"
        if ends_it(self.do):
            return f"{text}, or now: {self.do}"
        return f"{text}; {'see ' if self.do.startswith('epactl ') else ''}{self.do}"

    def as_json(self) -> status.Sentence:
        """Return the parts and the whole, as the API shows them."""
        return {
            "who": self.who,
            "what": self.what,
            "since": self.since,
            "why": self.why,
            "until": self.until,
            "do": self.do,
            "line": self.line,
        }


def ends_it(do: str) -> bool:
    """Tell if a command ends a trouble or a hold at once; anything else is advice."""
    return do.startswith(_ENDS_IT)


def moment(at: datetime, now: datetime, zone: tzinfo | None = None, *, seconds: bool = True) -> str:
    """Write a time of day as people read it, in the machine's zone; with its date if that is not today's."""
    local, today = at.astimezone(zone), now.astimezone(zone).date()
    time = f"{local:%H:%M:%S}" if seconds else f"{local:%H:%M}"
    return time if local.date() == today else f"{local:%Y-%m-%d} {time}"


def with_user_names(text: str, name_of: Callable[[int], str]) -> str:
    """Write the name of whoever gave an order where the kernel's numbers stand: `uid 1001 (pid 14956)`."""
    return _PEER.sub(lambda peer: name_of(int(peer[1])) or peer[0], text)


def user_name(uid: int) -> str:
    """Return the user of that number; empty if this machine knows none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return ""


def names(who: Sequence[str]) -> str:
    """Write several names as a list that is read aloud."""
    return " and ".join(filter(None, (", ".join(who[:-1]), who[-1]))) if who else ""


def together(sentences: Iterable[Sentence]) -> list[Sentence]:
    """Join sentences that share clauses, so that no clause stands twice."""
    merged: dict[tuple[str, ...], list[Sentence]] = {}
    for one in sentences:
        # A command names its subsystem, so `do` differs where all else is the same.
        merged.setdefault((one.what, one.why, one.until), []).append(one)
    return [_merge(group) for group in merged.values()]


def _merge(group: Sequence[Sentence]) -> Sentence:
    first = group[0]
    if len(group) == 1:
        return first
    commands = dict.fromkeys(one.do for one in group if one.do)
    what = f"are{first.what.removeprefix('is')}" if first.what.startswith("is ") else first.what
    since = min((one.since for one in group if one.since), default="")
    who = names([one.who for one in group])
    why, until = _in_plural(first.why), _in_plural(first.until)
    return replace(first, who=who, why=why, what=what, since=since, until=until, do="; ".join(commands))


def _in_plural(clause: str) -> str:
    for one, many in _PLURAL:
        clause = clause.replace(one, many)
    return clause
