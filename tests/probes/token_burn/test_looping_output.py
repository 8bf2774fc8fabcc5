"""What is degenerate in one answer, and what only looks like it: data of every shape, each by the page."""

from __future__ import annotations

import base64
import itertools
import json
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shipped_settings import PROBES

from probes.token_burn.output import LoopingOutput, is_prose
from probes.token_burn.settings import REMEMBERED_CHARACTERS
from probes.turns import TurnStreamed

DEFAULT = PROBES.token_burn
LETTERS = "abcdefghijklmnopqrstuvwxyz ,."


def found_after(text: str, piece: int = 4, output: LoopingOutput | None = None) -> int | None:
    """Feed a stream cut into pieces; return after how many characters it was found to be degenerate."""
    output = output or LoopingOutput(DEFAULT)
    for start in range(0, len(text), piece):
        if output.streamed(TurnStreamed("agent", 0.0, "t", (text[start : start + piece],))) is not None:
            return start + piece
    return None


def rows(make: Callable[[int], str], n: int = 300) -> str:
    return "".join(make(number) for number in range(n))


LOREM = (
    "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore et dolore "
    "magna aliqua. Ut enim ad minim veniam, quis nostrud exercitation ullamco laboris nisi ut aliquip ex ea commodo "
    "consequat. Duis aute irure dolor in reprehenderit in voluptate velit esse cillum dolore eu fugiat nulla pariatur. "
    "Excepteur sint occaecat cupidatat non proident, sunt in culpa qui officia deserunt mollit anim id est laborum.\n\n"
)
VERSE = (
    "The river runs, the river runs,\nand nobody has seen it stay;\n"
    "the river runs, the river runs,\nand takes the {} with it away.\n\n"
)
rng = random.Random(1)
WORDS = ["stone", "river", "lamp", "glass", "harbour", "winter", "bridge", "orchard", "signal", "engine"]

COUNTED = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def counted(n: int) -> str:
    """A number from 20 to 99 in words."""
    return TENS[n // 10 - 2] + (f"-{COUNTED[n % 10 - 1]}" if n % 10 else "")


def bottles(many: str, less: str) -> str:
    return (
        f"{many.capitalize()} bottles of beer on the wall, {many} bottles of beer. Take one down, pass it around, "
        f"{less} bottles of beer on the wall.\n"
    )


HONEST: dict[str, str] = {
    "bottles of beer, in figures": rows(lambda n: bottles(str(99 - n), str(98 - n)), 98),
    "bottles of beer, in words": rows(lambda n: bottles(counted(99 - n), counted(98 - n)), 78),
    "sheep, in words": rows(lambda n: f"The {counted(20 + n)} sheep jumps over the fence.\n", 80),
    "a farm of many verses": rows(
        lambda n: (
            f"The old man had a farm, and on that farm he had a {WORDS[n % 10]}. With a {WORDS[n // 3]} here and "
            f"a {WORDS[n // 3]} there, everywhere a {WORDS[n % 7]}. The old man had a farm.\n"
        ),
        30,
    ),
    "a table with counters": "| n | square |\n| --- | --- |\n" + rows(lambda n: f"| {n} | {n * n} |\n"),
    "a table of one value": "| a | b |\n|---|---|\n" + "| yes | no |\n" * 400,
    "csv of zeros": "a,b,c,d\n" + "0,0,0,0\n" * 800,
    "csv with words": "red,green,blue\n" * 400,
    "csv with quotes": '"Smith, John","Main Street"\n' * 200,
    "yaml": "items:\n" + "  - name: thing\n    value: none\n" * 200,
    "json rows": "[" + '{"label": "ok", "score": 0},\n' * 200 + "]",
    "json with counters": json.dumps([{"id": n, "label": "ok"} for n in range(300)]),
    "an array of zeros": "[" + "0, " * 2_000 + "0]",
    "an array of ones": "[" + "1.0, " * 1_000 + "1.0]",
    "base64 of zeros": base64.b64encode(bytes(2_800)).decode(),
    "hex of zeros": rows(lambda n: f"{n * 16:08x}  " + "00 " * 16 + "\n"),
    "hex in one line": "00" * 1_900,
    "a long number": "1" + "0" * 3_000,
    "dna": "AT" * 2_000,
    "dna with a poly-a tail": "".join(rng.choices("ACGT", k=1_000)) + "A" * 3_000,
    "a divider": "-" * 1_000,
    "markdown with dividers": rows(lambda n: f"## Part {n}\n\ntext\n\n---\n\n", 100),
    "a a a": "a " * 900,
    "no no no": "no " * 900,
    "ha ha ha": "ha" * 1_500,
    "an ascii picture": ("#" * 60 + "\n" + "#" + " " * 58 + "#\n" + ("#" + " " * 58 + "#\n") * 30) * 2,
    "a multiplication table": rows(lambda n: f"{n // 20} x {n % 20} = {(n // 20) * (n % 20)}\n", 400),
    "verse with a refrain": rows(lambda n: VERSE.format(WORDS[n % 10]), 30),
    "a hundred stanzas": rows(lambda n: VERSE.format(WORDS[n % 10]), 100),
    "a song that counts": rows(
        lambda n: (
            f"{WORDS[n // 10]}-{WORDS[n % 10]} bottles of beer on the wall, {WORDS[n // 10]}-{WORDS[n % 10]} bottles "
            "of beer. Take one down and pass it around, and nobody knows what is left of it.\n\n"
        ),
        99,
    ),
    "a short refrain": "and the rain came down, and the rain came down,\n" * 20,
    "lorem ipsum, five paragraphs of it": LOREM * 5,
    "lorem ipsum, nine": LOREM * 9,
    "logs": rows(lambda n: f"12:{n // 60:02}:{n % 60:02} INFO request served\n"),
    "logs without a time": "INFO request served without trouble\n" * 150,
    "code": rows(lambda n: f"    value_{n} = compute(value_{n}, 0)\n"),
    "code that repeats": "    assert_equal(result, expected);\n" * 150,
    "a struct of nothing": "    { .x = 0, .y = 0, .name = NULL },\n" * 150,
    "html": "<tr><td></td><td></td></tr>\n" * 200,
    "a list of words": rows(lambda n: f"- {WORDS[n % 10]} {WORDS[n // 10 % 10]}\n"),
    "a list of one word": "- to be done\n" * 200,
    "test vectors": rows(lambda n: f"Key = {'00' * 16}\nCount = {n}\nTag = {'00' * 16}\n\n", 60),
    "lines, as at school": "I will not talk in class.\n" * 70,
    "prose": " ".join(rng.choices(WORDS, k=2_000)),
    "svg": rows(lambda n: f'<path d="M{n} 0 L{n} 10" stroke="black"/>\n'),
    "music": "C E G E " * 200,
    "chess": rows(lambda n: f"{n}. Nf3 Nf6 ", 150),
    "a progress bar": "=" * 200 + ">\n",
    "emoji": "\U0001f327" * 900,
    "regular expressions": "[a-z]+|" * 300,
    "sql": rows(lambda n: f"INSERT INTO t VALUES ({n}, 'x');\n"),  # noqa: S608  a text, never run
    "sql of one row": "INSERT INTO t DEFAULT VALUES;\n" * 150,
}


def drifting() -> str:
    """One sentence, of which a word is another one now and then."""
    words, said = (
        ["the", "rain", "falls", "on", "the", "roof", "of", "the", "old", "house", "by", "the", "river."],
        [],
    )
    for turn in range(300):
        if turn % 6 == 5:
            words[rng.randrange(len(words))] = rng.choice(WORDS[:6])
        said.append(" ".join(words))
    return " ".join(said)


def numbered_drift(kinds: int, turns: int) -> str:
    """One sentence of which one of a few words is exchanged now and then: never the same for long, and nothing new."""
    words = ["the", "man", "has", "12", "keys", "to", "the", "house", "and", "looks", "on"]
    said, chance = [], random.Random(kinds)
    for turn in range(400):
        if turn % turns == 0:
            words[chance.choice((1, 4, 7, 9))] = WORDS[chance.randrange(kinds)]
        said.append(" ".join(words).capitalize() + ".")
    return " ".join(said)


LOOPS: dict[str, str] = {
    "the rain": "A poem about rain.\n" + "the rain, the rain, " * 400,
    "a sentence": "First I look. "
    + "I will now check whether the file is there, and then I will go on. So " * 100,
    "a sentence with a number in it": "The river takes a light to the engine, and paper 17 is left. " * 100,
    "a sentence with a quotation": 'And then she said "so it is" to him, and he went on. ' * 120,
    "a sentence with a number, that drifts": numbered_drift(8, 6),
    "a sentence with a number, that drifts faster": numbered_drift(3, 4),
    "two sentences": "The model is a model. It is used to model the model of a model. " * 100,
    "lines of prose": "The rain is falling on the roof.\nThe rain is falling on the roof again.\n" * 100,
    "a paragraph": LOREM[:190] * 40,
    "another script": "\u96e8\u304c\u964d\u308b\u3002\u7a93\u306e\u5916\u3067\u3002" * 300,
    "cyrillic": "\u0434\u043e\u0436\u0434\u044c \u0438\u0434\u0451\u0442, " * 300,
    "after an honest page": " ".join(rng.choices(WORDS, k=600)) + " and so on and so on, the end of it" * 150,
    "a sentence that drifts": drifting(),
    "rows without an end": "| yes | no |\n" * 2_000,
    "zeros without an end": "0, " * 6_000,
    "json without an end": '{"label": "ok", "score": 0},\n' * 1_000,
}


@pytest.mark.parametrize("piece", [1, 4, 33, 500])
@pytest.mark.parametrize("name", HONEST)
def test_data_verse_and_lists_are_passed_on(name: str, piece: int) -> None:
    assert found_after(HONEST[name], piece) is None


@pytest.mark.parametrize("piece", [1, 4, 33, 500])
@pytest.mark.parametrize("name", LOOPS)
def test_what_says_nothing_new_any_more_is_found(name: str, piece: int) -> None:
    assert found_after(LOOPS[name], piece) is not None


@given(st.integers(1, 25), st.integers(1, 60), st.integers(0, 3_000), st.integers(0, 9_999))
def test_a_loop_of_prose_is_found_soon_wherever_it_begins(
    words: int, piece: int, before: int, seed: int
) -> None:
    """After two thousand characters that say nothing new, or ten repeats, and a look or two."""
    chance = random.Random(seed)
    unit = "so the rain " + " ".join(chance.choices(WORDS, k=words)) + ", "
    text = "".join(chance.choices(LETTERS, k=before)) + unit * (12_000 // len(unit))
    found = found_after(text, piece)
    allowed = max(DEFAULT.output_characters, DEFAULT.output_windows * len(unit))
    assert is_prose(unit)
    assert found is not None
    assert found - before <= allowed + len(unit) + 2 * DEFAULT.output_window_characters + 2 * piece
    assert found - before >= min(allowed, len(text))


@pytest.mark.parametrize(("sentences", "repeats"), [(8, 10.0), (30, 5.0), (80, 4.0)])
def test_of_a_page_fewer_repeats_are_enough(sentences: int, repeats: float) -> None:
    """Ten of a line; three of a page beyond two thousand characters, since nobody asks for ten."""
    chance = random.Random(sentences)
    page = " ".join(
        f"The {chance.choice(WORDS)} {place} saw {chance.choice(WORDS)} and the old man."
        for place in range(sentences)
    )
    found = found_after((page + " ") * 14, 24)
    assert found is not None
    assert (repeats - 1) * len(page) <= found <= (repeats + 1) * len(page) + 200


@pytest.mark.parametrize(("lines", "found_at"), [(4, 12_000), (12, 20 * 12 * 28)])
def test_a_block_of_code_repeats_twenty_times_and_a_few_rows_for_longer(lines: int, found_at: int) -> None:
    """A form of four lines is printed a hundred times on purpose; twelve lines of code are not written twenty times."""
    block = "".join(f"    self.{WORDS[n % len(WORDS)]:_<10} = {n:3}" + " " * 2 + "\n" for n in range(lines))
    assert len(block) == lines * 28
    found = found_after(block * 200, 24)
    assert found is not None
    assert found_at <= found <= found_at + len(block) + 200


@given(st.text(alphabet=LETTERS + "\n", min_size=20, max_size=200), st.integers(1, 60))
def test_what_counts_is_never_a_loop(line: str, piece: int) -> None:
    """Whatever the line is: its number is something new each time."""
    text = "".join(f"{number} {line}" for number in itertools.islice(itertools.count(), 400))
    assert found_after(text, piece) is None


def test_identical_chunks_have_a_bound_of_their_own() -> None:
    """A model that says one token for ever; base64 and a picture have hundreds."""
    output = LoopingOutput(DEFAULT)
    assert found_after("!" * (DEFAULT.output_chunks - 1), 1, output) is None
    assert found_after("!", 1, output) is not None


def test_the_reason_keeps_what_was_said_to_itself() -> None:
    output, verdict = LoopingOutput(DEFAULT), None
    for _ in range(200):
        verdict = verdict or output.streamed(TurnStreamed("agent", 0.0, "t", ("my secret is the truth, ",)))
    assert verdict is not None
    assert "secret" not in verdict.reason
    assert verdict.evidence["characters"] == len("my secret is the truth, ")


def test_a_stream_costs_and_keeps_a_bounded_amount() -> None:
    """100,000 chunks leave the end of the text behind, and are looked through once for every 50 characters."""
    chance = random.Random(1)
    output = LoopingOutput(DEFAULT)
    for _ in range(100_000):
        piece = "".join(chance.choices("abcdefghij", k=3))
        assert output.streamed(TurnStreamed("agent", 0.0, "t", (piece,))) is None
    assert len(output._tail) == REMEMBERED_CHARACTERS
    assert output.looked <= 300_000 / DEFAULT.output_window_characters
    output.streamed(TurnStreamed("agent", 0.0, "t", ("x" * 1_000_000,)))
    assert len(output._tail) + len(output._chunk) <= 2 * REMEMBERED_CHARACTERS
