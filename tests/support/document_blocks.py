"""The code blocks of the documents, and how they are marked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
_MARK = re.compile(r"<!-- not run: (.+) -->")


@dataclass(frozen=True)
class Block:
    """One block. `excuse` is the reason that stands above it for not being run, if one does."""

    document: str
    line: int
    language: str
    text: str
    excuse: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """What is typed in a console block."""
        return [line[2:] for line in self.text.splitlines() if line.startswith("$ ")]


def blocks(language: str | None = None) -> list[Block]:
    """Every block of every document, or those of a language that are to be run."""
    found = [block for document in DOCUMENTS for block in _of(document)]
    return found if language is None else [b for b in found if b.language == language and not b.excuse]


def _of(document: Path) -> list[Block]:
    found, inside, began, language, excuse = [], False, 0, "", ""
    lines = document.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        if not line.startswith("```"):
            continue
        if inside:
            text = "\n".join(lines[began : number - 1]) + "\n"
            found.append(Block(str(document.relative_to(ROOT)), began, language, text, excuse))
        else:
            began, language = number, line[3:].strip()
            above = next((text for text in reversed(lines[: number - 1]) if text.strip()), "")
            mark = _MARK.fullmatch(above.strip())
            excuse = mark[1] if mark else ""
        inside = not inside
    return found
