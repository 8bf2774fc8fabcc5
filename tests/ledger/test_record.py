"""Records keep what they are given, and their hashes hold on to every byte."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.ledger.entry import OpenTurn, TurnNames
from epad.ledger.errors import RecordError
from epad.ledger.hashes import GENESIS, leaf_hash, link_hash
from epad.ledger.record import (
    EpochStarted,
    Kind,
    Outcome,
    Repaired,
    TurnClosed,
    TurnOpened,
    UsageSource,
    columns_of,
    decode,
    encode,
    spans_of,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
counts = st.integers(0, 2**62)
hashes = st.binary(min_size=32, max_size=32)
turns = st.from_regex(r"[0-9a-f]{32}", fullmatch=True)
spans = st.lists(st.tuples(counts, counts), max_size=3).map(tuple)
stamps = {"wall_ns": counts, "boot_id": texts, "monotonic_ns": counts, "epoch": counts}
records = st.one_of(
    st.builds(
        TurnOpened,
        turn=turns,
        subsystem=texts,
        dialect=texts,
        model=texts,
        prompt_bound=counts,
        output_cap=counts,
        reserved_tokens=counts,
        idempotency_key=st.none() | texts,
        request_sha256=hashes,
        reserved_microusd=counts,
        **stamps,
    ),
    st.builds(
        TurnClosed,
        turn=turns,
        subsystem=texts,
        outcome=st.sampled_from(Outcome),
        input_tokens=counts,
        output_tokens=counts,
        charged_tokens=counts,
        usage_source=st.sampled_from(UsageSource),
        http_status=counts,
        reason=texts,
        **stamps,
    ),
    st.builds(EpochStarted, nonce=hashes, previous_link=hashes, clean=st.booleans(), **stamps),
    st.builds(Repaired, restored=spans, lost=spans, cause=texts, source=texts, **stamps),
)


@given(record=records)
def test_a_record_reads_back_as_it_was_written(record):
    """Encoding loses nothing, and the first element alone tells the kinds apart."""
    again = decode(1, encode(record))

    assert again == record
    assert type(again) is type(record)
    assert columns_of(again)[1] in Kind


@given(record=records, data=st.data())
def test_no_bit_of_a_body_can_change_unseen(record, data):
    """The leaf hash covers every bit of a body, and the link covers the leaf."""
    body = bytearray(encode(record))
    before = leaf_hash(bytes(body))
    position = data.draw(st.integers(0, len(body) * 8 - 1))
    body[position // 8] ^= 1 << position % 8
    after = leaf_hash(bytes(body))

    assert after != before
    assert link_hash(GENESIS, 1, after) != link_hash(GENESIS, 1, before)


def test_a_link_depends_on_place_and_past():
    """The same body elsewhere, or after something else, has another link."""
    leaf = leaf_hash(b"body")

    assert len({link_hash(GENESIS, 1, leaf), link_hash(GENESIS, 2, leaf), link_hash(leaf, 1, leaf)}) == 3


@pytest.mark.parametrize("body", [b"", b"\x93\x01\x02\x03", b"\x92\xcd\xff\x01\x00", b"\xc1", b"\x80"])
def test_bytes_that_are_no_record_are_named(body):
    """Whoever reads the error knows which record it is about."""
    with pytest.raises(RecordError, match="record 42 "):
        decode(42, body)


@pytest.mark.parametrize("turn", ["", "x" * 32, "A" * 32, "0" * 31, "0" * 32 + "\n"])
def test_a_turn_is_32_hex_digits(turn):
    """A turn that could not be read back is refused before it is written."""
    with pytest.raises(RecordError, match="not a turn"):
        OpenTurn(turn, "chat", "openai", "model", 1, 1, 2, bytes(32))


@given(sequences=st.sets(st.integers(1, 60)))
def test_spans_hold_exactly_their_sequences(sequences):
    """Folding into spans and unfolding again gives the same numbers."""
    folded = spans_of(sorted(sequences))

    assert {seq for first, last in folded for seq in range(first, last + 1)} == sequences
    assert all(second[0] > first[1] + 1 for first, second in itertools.pairwise(folded))


@given(st.floats(0, 1e9))
def test_a_new_turn_is_named_by_its_time_and_by_chance(at: float) -> None:
    """Names of one time stand together and differ; all are names of turns."""
    name = TurnNames()
    first, second = name(at), name(at)
    assert first[:12] == second[:12] <= name(at + 1)[:12]
    assert first != second
    OpenTurn(first, "chat", "openai", "model", 1, 1, 2, bytes(32))


def test_records_of_the_first_format_and_from_before_there_was_money_still_read() -> None:
    """What was written stays readable, and costs nothing where it says nothing of money."""
    turn = "0" * 32
    opened = [0x101, turn, "chat", "openai", "model", 40, 60, 100, None, bytes(32), 7, "boot", 8, 1]
    closed = [0x102, turn, "chat", "done", 20, 10, 30, "usage", 200, "", 7, "boot", 8, 1]

    before = decode(1, msgspec.msgpack.encode(opened))
    assert before == TurnOpened(
        turn, "chat", 7, "openai", "model", 40, 60, 100, None, bytes(32), "boot", 8, 1
    )
    assert isinstance(before, TurnOpened)
    assert before.reserved_microusd == 0
    after = decode(2, msgspec.msgpack.encode(closed))
    assert isinstance(after, TurnClosed)
    assert (after.wall_ns, after.charged_tokens, after.charged_microusd) == (7, 30, 0)


def test_a_field_at_the_end_is_no_new_format() -> None:
    """A record that is shorter than today's reads with what the field says of itself."""
    closed = [0x202, "0" * 32, "chat", 7, "done", 20, 10, 30, "usage", 200, "", "boot", 8, 1]
    after = decode(2, msgspec.msgpack.encode(closed))
    assert isinstance(after, TurnClosed)
    assert after.charged_microusd == 0
    assert msgspec.msgpack.decode(encode(after))[:-1] == closed
