"""What models write: prose, data of many shapes, and answers that go round in circles.

Every text is made from a seed, and honest ones grow: however regular a table is, its rows are not the same.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Sequence

WORDS = (  # noqa: SIM905  a list of words is read most easily as one text
    "river stone light engine paper signal garden window number letter market summer winter morning evening road "
    "bridge cable server budget model answer question reason result method matter system circle corner colour metal "
    "silver copper carbon table chair kitchen doctor teacher farmer sailor writer reader worker driver painter "
    "mountain valley forest desert island harbour station village city country border season weather thunder rain "
    "snow wind cloud shadow mirror candle blanket pocket button needle thread hammer ladder basket bottle barrel "
    "slow quick early late small large narrow broad heavy empty silent bright hidden open broken solid simple"
).split()
VERBS = "takes gives holds moves turns keeps finds loses brings leaves follows carries opens closes counts".split()  # noqa: SIM905


def prose(rng: random.Random, sentences: int = 6) -> str:
    """Plain sentences, no two alike."""
    return " ".join(sentence(rng) for _ in range(sentences))


def sentence(rng: random.Random) -> str:
    a, b, c, d = (rng.choice(WORDS) for _ in range(4))
    return f"The {a} {b} {rng.choice(VERBS)} a {c} in the {d}, and {rng.choice(WORDS)} {rng.randint(2, 99)} is left."


def csv(rng: random.Random) -> str:
    rows = (f"{n},{rng.choice(WORDS)},{rng.randint(1, 999)},{rng.random():.3f},true" for n in range(60))
    return "id,name,count,share,active\n" + "\n".join(rows)


def csv_of_zeros(rng: random.Random) -> str:
    return "\n".join(f"2026-01-{n % 28 + 1:02},{rng.randint(0, 9)},0,0,0,0,0,0" for n in range(60))


def yaml(rng: random.Random) -> str:
    return "\n".join(
        f"- name: {rng.choice(WORDS)}-{n}\n  enabled: true\n  replicas: {rng.randint(1, 9)}\n  ports:\n  - {8000 + n}"
        for n in range(30)
    )


def json_rows(rng: random.Random) -> str:
    rows = [{"id": n, "name": rng.choice(WORDS), "ok": True, "score": rng.randint(0, 100)} for n in range(40)]
    return "\n".join(json.dumps(row) for row in rows)


def json_booleans(rng: random.Random) -> str:
    return json.dumps([{"row": n, "label": rng.choice(["true", "false"]), "flag": False} for n in range(45)])


def markdown_table(rng: random.Random) -> str:
    rows = (f"| {n} | {rng.choice(WORDS)} | {rng.randint(1, 99)} % | yes |" for n in range(45))
    return "| no | name | share | done |\n|---|---|---|---|\n" + "\n".join(rows)


def html_table(rng: random.Random) -> str:
    return (
        "<table>"
        + "".join(f"<tr><td>{n}</td><td>{rng.choice(WORDS)}</td></tr>\n" for n in range(45))
        + "</table>"
    )


def code(rng: random.Random) -> str:
    return "\n\n".join(
        f"    def get_{rng.choice(WORDS)}_{n}(self) -> int:\n        return self._values[{n}]"
        for n in range(25)
    )


def unit_tests(rng: random.Random) -> str:
    return "\n".join(f"    self.assertEqual(add({n}, {rng.randint(1, 9)}), {n + 5})" for n in range(50))


def sql(rng: random.Random) -> str:
    return "\n".join(f"INSERT INTO item(id, name) VALUES ({n}, '{rng.choice(WORDS)}');" for n in range(40))  # noqa: S608  nobody runs it


def logs(rng: random.Random) -> str:
    return "\n".join(
        f"2026-01-01T00:{n // 60:02}:{n % 60:02}Z INFO  server request handled status=200 ms={rng.randint(1, 90)}"
        for n in range(45)
    )


def log_of_retries(_: random.Random) -> str:
    return "\n".join(f"attempt {n}: connection refused, retrying in {min(60, n)} s" for n in range(1, 45))


def verse(rng: random.Random) -> str:
    """A refrain of two lines after each stanza."""
    refrain = "And the rain it raineth every day,\nwith hey, ho, the wind and the rain.\n"
    return "\n".join(f"{sentence(rng)}\n{sentence(rng)}\n{refrain}" for _ in range(9))


def bottles(_: random.Random) -> str:
    return "\n".join(
        f"{n} bottles of beer on the wall, {n} bottles of beer. Take one down, pass it around, {n - 1} bottles of beer."
        for n in range(30, 12, -1)
    )


def encoded(rng: random.Random) -> str:
    return base64.encodebytes(rng.randbytes(1_300)).decode()


def hex_dump(rng: random.Random) -> str:
    """Half of the lines are zeros, as in any image of a disk."""
    lines = []
    for n in range(45):
        row = bytes(16) if n % 2 else rng.randbytes(16)
        lines.append(f"{n * 16:08x}  {row.hex(' ')}")
    return "\n".join(lines)


def multiplication(_: random.Random) -> str:
    return "\n".join(" ".join(f"{a * b:4}" for b in range(1, 13)) for a in range(1, 19))


def dna(rng: random.Random) -> str:
    return "".join(rng.choice("ACGT") for _ in range(1_600))


def art(_: random.Random) -> str:
    return "\n".join(" " * (20 - n) + "*" * (2 * n + 1) for n in range(20)) + "\n" + "=" * 60


def zeros(_: random.Random) -> str:
    return "int table[256] = {" + ", ".join(["0"] * 256) + "};"


def numbers(rng: random.Random) -> str:
    return "\n".join(f"{n}. {sentence(rng)}" for n in range(1, 25))


def check_list(rng: random.Random) -> str:
    return "\n".join(f"- [ ] {rng.choice(VERBS)} the {rng.choice(WORDS)} {n}" for n in range(60))


def matrix(_: random.Random) -> str:
    rows = (" & ".join("1" if a == b else "0" for b in range(14)) for a in range(14))
    return "\\begin{pmatrix}\n" + " \\\\\n".join(rows) + "\n\\end{pmatrix}"


def lines(_: random.Random) -> str:
    """What was asked for: one line, forty times."""
    return "I will not talk in the library again.\n" * 40


def mantra(_: random.Random) -> str:
    """What was asked for: one sentence, twenty-five times, in one line."""
    return "All will be well, and every manner of thing will be well. " * 25


def votes(rng: random.Random) -> str:
    return "\n".join(f"{n}: {rng.choice(['yes', 'no', 'no', 'no'])}" for n in range(1, 90))


Shape = Callable[[random.Random], str]
FAMILIES: dict[str, Sequence[Shape]] = {
    "tables": (csv, csv_of_zeros, markdown_table, html_table, multiplication),
    "records": (yaml, json_rows, json_booleans, sql, votes),
    "code and logs": (code, unit_tests, logs, log_of_retries, zeros),
    "verse and lists": (verse, bottles, numbers, check_list, prose, lines, mantra),
    "encodings and pictures": (encoded, hex_dump, dna, art, matrix),
}


def circle(rng: random.Random, times: int = 400) -> str:
    """One sentence, word for word, without end."""
    return (sentence(rng) + " ") * times


def drift(rng: random.Random, times: int = 400) -> str:
    """One sentence of which a word changes now and then: it never repeats exactly for long, and says nothing new."""
    words = sentence(rng).split()
    said = []
    for turn in range(times):
        if turn % 6 == 5:
            words[rng.randrange(len(words))] = rng.choice(WORDS[:8])
        said.append(" ".join(words))
    return " ".join(said)


def stutter(rng: random.Random, times: int = 4_000) -> str:
    """Two words in turn."""
    a, b = rng.sample(WORDS, 2)
    return f"{a} {b} " * times


def poem_that_sticks(rng: random.Random) -> str:
    """A small model's poem: four lines that go well, then the last one again and again."""
    lines = [sentence(rng) for _ in range(4)]
    return "\n".join(lines + [lines[-1]] * 30)
