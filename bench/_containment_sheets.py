"""What models print besides prose and tables: music, patterns, plans, subtitles, machine code. All of it is honest."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

from _containment_shapes import WORDS, Shape, sentence


def drum_tab(rng: random.Random) -> str:
    bars = ("x-x-x-x-", "x-x-x-xx", "o---o---")
    return "\n".join(
        f"HH|{rng.choice(bars[:2])}|{rng.choice(bars[:2])}|\nBD|{bars[2]}|{bars[2]}|\n" for _ in range(24)
    )


def guitar_tab(rng: random.Random) -> str:
    return "\n\n".join(
        "\n".join(f"{s}|{'-'.join(rng.choice('0235-') for _ in range(16))}|" for s in "eBGDAE")
        for _ in range(8)
    )


def knitting(rng: random.Random) -> str:
    ribs = ("k2, p2", "k1, p1", "k2, p2")
    return "\n".join(
        f"Row {n}: *{ribs[n % 3]}; repeat from * to the end ({rng.choice((64, 66))} sts)."
        for n in range(1, 60)
    )


def subtitles(rng: random.Random) -> str:
    return "\n".join(
        f"{n}\n00:{n // 20:02}:{n * 3 % 60:02},000 --> 00:{n // 20:02}:{(n * 3 + 2) % 60:02},500\n"
        f"{rng.choice(['Yes.', 'No.', sentence(rng)])}\n"
        for n in range(1, 40)
    )


def g_code(rng: random.Random) -> str:
    return "\n".join(f"G1 X{n % 40}.000 Y{rng.randint(0, 40)}.000 E{n * 0.03:.4f} F1800" for n in range(90))


def css(rng: random.Random) -> str:
    return "\n".join(
        f".{rng.choice(WORDS)}-{n} {{\n  margin: 0;\n  padding: 0;\n  border: none;\n  width: {n}px;\n}}"
        for n in range(30)
    )


def diff(rng: random.Random) -> str:
    return "\n".join(
        f"@@ -{n * 10},3 +{n * 10},3 @@\n     return self\n"
        f"-    {rng.choice(WORDS)} = None\n+    {rng.choice(WORDS)} = 0\n     pass"
        for n in range(1, 30)
    )


def assembly(rng: random.Random) -> str:
    return "\n".join(
        f"    mov  r{n % 8}, [sp + {4 * n}]\n    nop\n    nop\n    add  r{n % 8}, r{n % 8}, #{rng.randint(1, 255)}"
        for n in range(40)
    )


def morse(rng: random.Random) -> str:
    return " / ".join(
        " ".join(rng.choice((".-", "-...", "-.-.", ".", "..", "---", "...")) for _ in range(5))
        for _ in range(60)
    )


def nulls(rng: random.Random) -> str:
    fields = ("phone", "fax", "mobile", "address", "city", "country", "note")
    return json.dumps(
        [{"id": n, "name": rng.choice(WORDS), **dict.fromkeys(fields)} for n in range(30)], indent=1
    )


def counting(_: random.Random) -> str:
    return ", ".join(map(str, range(1, 500)))


def calendar(rng: random.Random) -> str:
    days = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    return "\n".join(
        f"{days[n % 7]} {n % 30 + 1:2}: 9-12 work, 12-13 lunch, 13-17 work{rng.choice(['', ', gym'])}"
        for n in range(56)
    )


def site_map(rng: random.Random) -> str:
    return "\n".join(
        f"  <url>\n    <loc>https://example.org/{rng.choice(WORDS)}/{n}</loc>\n    <changefreq>monthly</changefreq>\n"
        "    <priority>0.5</priority>\n  </url>"
        for n in range(35)
    )


def lullaby(rng: random.Random) -> str:
    return "\n".join(
        f"La la la, la la la, sleep, {rng.choice(WORDS)}, sleep,\nla la la, la la la, la la la la."
        for _ in range(20)
    )


def heat_map(rng: random.Random) -> str:
    return "\n".join("".join(rng.choice("  ..::▒▒▓") for _ in range(40)) for _ in range(40))


def workout(_: random.Random) -> str:
    return "\n".join(
        f"Week {w}, day {d}: 3 x 10 squats, 3 x 10 push-ups, 3 x 10 rows, 30 s of plank."
        for w in range(1, 13)
        for d in (1, 2, 3)
    )


def blank_records(_: random.Random) -> str:
    """Forty of a form that nobody has filled in."""
    record = json.dumps(dict.fromkeys(("name", "street", "town", "country", "phone", "mail"), ""), indent=1)
    return "[" + ",\n".join([record] * 40) + "]"


SHEETS: Sequence[Shape] = (
    drum_tab, guitar_tab, knitting, subtitles, g_code, css, diff, assembly, morse, nulls, counting, calendar, site_map,
    lullaby, heat_map, workout, blank_records,
)  # fmt: skip
