"""Say which labels a session gets by what it reads: a table in code, as the gate's. Pure.

| content | untrusted | private | reason |
|---|---|---|---|
| of the network: pages, answers to requests, searches | yes | no | others write it |
| of a page's script, of a container's program | yes | no | the same |
| of an archive, and what is taken out of it | yes | no | an archive is packed elsewhere |
| of the host: processes, its environment, its devices | no | yes | it is the operator's |
| of logs | yes | yes | who sends a request writes into them |
| of a database | yes | yes | its rows are others' forms and letters, and the operator's records |
| made with a secret | no | yes | it is the operator's |
| a document of the knowledge vault | by its path | by its path | `[vault]` says so of paths; `epad/vault/answers.py` |
| of a message, task or memory row | as its author's session | as its author's session | labels go with the text |
| the same of a session of a lower tier | yes | as its author's session | no authority flows up |
| of a tool whose definition says so (a foreign server's) | yes | as its risk | a server's word is a claim |
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from epad.gate.tool_risk import ToolRisk
from epad.gate.tool_table import BOTH, Taint

_BY_RISK: Final[Mapping[ToolRisk, Taint]] = MappingProxyType(
    {
        ToolRisk.READS_NETWORK: Taint.UNTRUSTED,
        ToolRisk.SENDS: Taint.UNTRUSTED,
        ToolRisk.RUNS_CODE: Taint.UNTRUSTED,
        ToolRisk.RUNS_CONTAINER: Taint.UNTRUSTED,
        ToolRisk.READS_HOST: Taint.PRIVATE,
        ToolRisk.USES_SECRET: Taint.PRIVATE,
    }
)
_BY_CATEGORY: Final[Mapping[str, Taint]] = MappingProxyType({"database": BOTH, "archive": Taint.UNTRUSTED})
_BY_NAME: Final[Mapping[str, Taint]] = MappingProxyType({"docker_logs": BOTH, "logs_tail": BOTH})
_GIVE_BACK_NOTHING: Final = frozenset({"tar_create", "zip_create", "docker_stop", "browser_close"})
"""Their results say what was done, and nothing that somebody else wrote."""
_LABELS: Final = (Taint.UNTRUSTED, Taint.PRIVATE)


def labels_of(risk: ToolRisk, category: str = "", name: str = "", *, untrusted: bool = False) -> Taint:
    """Return the labels that the result of a tool gives; `untrusted` is what its definition says of its output."""
    if name in _GIVE_BACK_NOTHING:
        return Taint.NONE
    found = _BY_RISK.get(risk, Taint.NONE) | _BY_CATEGORY.get(category, Taint.NONE)
    return found | _BY_NAME.get(name, Taint.NONE) | (Taint.UNTRUSTED if untrusted else Taint.NONE)


def heard(taint: Taint, *, lower: bool = False, shared: bool = False) -> Taint:
    """Return the labels that another session's text gives: its author's labels, and more if its tier is lower.

    `shared`: it is of the memory that a person keeps for this machine's own.
    """
    return taint | (Taint.UNTRUSTED if lower else Taint.NONE) | (Taint.PRIVATE if shared else Taint.NONE)


def each(taint: Taint) -> tuple[Taint, ...]:
    """Return labels one by one."""
    return tuple(label for label in _LABELS if label & taint)


def in_words(taint: Taint) -> str:
    """Return labels as people read them; `none` without one."""
    return " and ".join(label.name.lower() for label in each(taint) if label.name) or "none"
