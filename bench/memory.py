"""The memory of agents: what a write and a search cost among 100,000 names, what a kill loses, what a search finds.

`python bench/memory.py [--quick] [--json FILE]`. Costs are CPU seconds of the store's own child, by /proc. A ranking by
TF-IDF and cosine over the same candidates is measured beside bm25; it has to find 5 points more to be built.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog
from _harness import Peers, Row, run
from _memory_notes import NOTES

from epad.tools.own import OwnToolError
from epad.vault.child import VaultChild
from runners.vault import words
from runners.vault.damage import open_store
from runners.vault.serve import Server
from runners.vault.store import Quotas

ENTITIES, QUICK_ENTITIES = 100_000, 10_000
WRITES, ALONE, SEARCHES = 1_000, 300, 300
WRITERS, KILL_EACH, FORGET_EACH = 8, 60, 25
WRITE_MS, SEARCH_MS, RESIDENT_MIB, LEAST_POINTS = 1.0, 10.0, 40.0, 5.0
VOCABULARY, TEXT_WORDS, AT_ONCE = 20_000, 30, 200
DISTRACTORS, CANDIDATES, FIRST = 2_000, 50, 5
SEED = 2_026
LARGE, OTHER = "a" * 32, "b" * 32
NO_QUOTA = Quotas(rows=1 << 40, session_bytes=1 << 60, file_bytes=1 << 60)


class Zipf:
    """Makes texts whose words are as uneven as those of a language."""

    def __init__(self) -> None:
        self._chance = random.Random(SEED)
        self._words = [f"w{number:x}" for number in range(VOCABULARY)]
        self._weights = [1 / (rank + 1) for rank in range(VOCABULARY)]

    def text(self, length: int = TEXT_WORDS) -> str:
        return " ".join(self._chance.choices(self._words, self._weights, k=length))


def asked(session: str, **arguments: object) -> dict[str, Any]:
    return {"by": {"author": "agent", "session": session}, "arguments": arguments}


def filled(path: Path, count: int, texts: Zipf) -> None:
    """Make a store with so many names of one session, by the store's own code."""
    path.parent.mkdir()
    store = open_store(path, NO_QUOTA, lambda: 0.0)
    server = Server(store, path, path.parent)
    for first in range(0, count, AT_ONCE):
        server.group(
            [
                msgspec.json.encode(
                    {
                        "id": number,
                        "tool": "memory_store",
                        "arguments": asked(LARGE, name=f"n{number}", content=texts.text()),
                    }
                )
                for number in range(first, first + AT_ONCE)
            ]
        )
    store.connection.close()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


async def costs(directory: Path, texts: Zipf) -> tuple[float, float, float, float]:
    """Return the CPU milliseconds of a write among others, of one alone, and of a search; and the MiB that there are.

    A write alone has a commit of its own; those of several writers share one.
    """
    child = VaultChild(directory, structlog.get_logger())
    await child.ask("memory_search", asked(LARGE, query=texts.text(4)))
    [pid] = child.pids
    before = cpu_seconds(pid)

    async def write(writer: int) -> None:
        for number in range(writer, WRITES, WRITERS):
            await child.ask("memory_store", asked(OTHER, name=f"m{number}", content=texts.text()))

    await asyncio.gather(*map(write, range(WRITERS)))
    written = cpu_seconds(pid)
    for number in range(ALONE):
        await child.ask("memory_store", asked(OTHER, name=f"a{number}", content=texts.text()))
    alone = cpu_seconds(pid)
    for _ in range(SEARCHES):
        await child.ask("memory_search", asked(LARGE, query=texts.text(4)))
    searched, resident = cpu_seconds(pid), resident_mib(pid)
    await child.close()
    each = (written - before) / WRITES, (alone - written) / ALONE, (searched - alone) / SEARCHES
    return 1000 * each[0], 1000 * each[1], 1000 * each[2], resident


async def lost(directory: Path, forget_each: int = 0) -> tuple[int, int]:
    """Return how many acknowledged writes of 8 writers are missing after kills, and how many were acknowledged.

    With `forget_each` every so many writes of a writer are acknowledged and not made: a bug that must be seen.
    """
    child = VaultChild(directory, structlog.get_logger())
    known: set[str] = set()

    async def write(writer: int) -> None:
        number = 0
        while len(known) < WRITES:
            name, number = f"w{writer}-{number}", number + 1
            try:
                if not forget_each or number % forget_each:
                    await child.ask("memory_store", asked(OTHER, name=name, content=f"the text of {name}"))
            except OwnToolError:
                continue
            known.add(name)
            if number % KILL_EACH == 0:
                for pid in child.pids:
                    os.kill(pid, signal.SIGKILL)

    await asyncio.gather(*map(write, range(WRITERS)))
    there: set[str] = set()
    cursor = "0"
    while cursor:
        page = await child.ask("memory_list", asked(OTHER, cursor=cursor, limit=200))
        there |= {one["name"] for one in page["entities"]}
        cursor = page["next"]
    await child.close()
    return len(known - there), len(known)


def recalls(path: Path) -> tuple[float, float]:
    """Return the share of questions whose note is among the first 5: by bm25 alone, and ranked anew."""
    chance = random.Random(SEED)
    server = Server(open_store(path, NO_QUOTA, lambda: 0.0), path, path.parent)

    def ask(tool: str, **arguments: object) -> dict[str, Any]:
        request = {"id": 1, "tool": tool, "arguments": asked(LARGE, **arguments)}
        [answer] = server.group([msgspec.json.encode(request)])
        result: dict[str, Any] = answer.get("result", {})
        return result

    texts = {f"note {number}": note for number, (note, *_) in enumerate(NOTES)}
    vocabulary = [word for note in texts.values() for word in note.split()]
    texts |= {f"other {n}": " ".join(chance.sample(vocabulary, 12)) for n in range(DISTRACTORS)}
    for name, text in texts.items():
        ask("memory_store", name=name, content=text)
    frequency = Counter(word for text in texts.values() for word in set(words.normalised(text).split()))
    found = again = 0
    questions = [(number, question) for number, (_, *asks) in enumerate(NOTES) for question in asks]
    for number, question in questions:
        results = ask("memory_search", query=question, limit=CANDIDATES)["results"]
        found += f"note {number}" in [one["name"] for one in results[:FIRST]]
        ranked = sorted(results, key=lambda one: -cosine(question, one["text"], frequency, len(texts)))
        again += f"note {number}" in [one["name"] for one in ranked[:FIRST]]
    return 100 * found / len(questions), 100 * again / len(questions)


def cosine(one: str, other: str, frequency: Counter[str], count: int) -> float:
    """Return how alike two texts are by the rarity of their words."""
    left, right = (weights(text, frequency, count) for text in (one, other))
    length = math.hypot(*left.values()) * math.hypot(*right.values())
    return sum(left[word] * right.get(word, 0.0) for word in left) / length if length else 0.0


def weights(text: str, frequency: Counter[str], count: int) -> dict[str, float]:
    counted = Counter(words.normalised(text).split())
    return {
        word: (1 + math.log(number)) * math.log(1 + count / (1 + frequency[word]))
        for word, number in counted.items()
    }


def main(*, quick: bool) -> Sequence[Row]:
    """Measure costs, then losses, then recall."""
    command = "python bench/memory.py" + (" --quick" if quick else "")
    count = QUICK_ENTITIES if quick else ENTITIES
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with tempfile.TemporaryDirectory(prefix="epad-bench-") as name:
        folder, texts = Path(name), Zipf()
        filled(folder / "large/vault.db", count, texts)
        write, alone, search, resident = asyncio.run(costs(folder / "large", texts))
        missing, acknowledged = asyncio.run(lost(folder / "kills"))
        planted, _ = asyncio.run(lost(folder / "planted", FORGET_EACH))
        plain, ranked = recalls(folder / "notes.db")
    questions = 2 * len(NOTES)

    def row(claim: str, value: float, unit: str, goal: float, n: int, peers: Peers | None = None) -> Row:
        return Row(claim, value, unit, f"{goal:g}", value <= goal, peers or {}, n, command)

    def told(claim: str, value: float, unit: str) -> Row:
        return Row(claim, value, unit, "", None, n=questions, command=command)

    return [
        row(f"a write among {count:,} names, by {WRITERS} writers", write, "ms CPU", WRITE_MS, WRITES),
        row(f"a write among {count:,} names, committed alone", alone, "ms CPU", WRITE_MS, ALONE),
        row(f"a search among {count:,} names", search, "ms CPU", SEARCH_MS, SEARCHES),
        row("memory of the child then (PSS)", resident, "MiB", RESIDENT_MIB, 1),
        row(
            "acknowledged writes lost, 8 writers and kill -9",
            missing,
            "",
            0,
            acknowledged,
            {f"planted: each {FORGET_EACH}th write of a writer is acknowledged and not made": planted},
        ),
        told("questions answered among the first 5, by bm25", plain, "%"),
        told(f"points that TF-IDF adds (built from {LEAST_POINTS:g} on)", ranked - plain, "points"),
    ]


if __name__ == "__main__":
    sys.exit(run("memory", lambda quick: main(quick=quick)))
