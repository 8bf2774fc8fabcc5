"""Turns that were open when the daemon was killed: asked again in its next life, answered once, paid for once."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest
from gateway_load import CONFIG, Books, Upstream
from installed import QUICK, Installation, installation
from patience import PATIENCE_SECONDS

QUESTIONS = ("one", "two", "three")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def house(upstream: Upstream) -> Iterator[Installation]:
    with installation(QUICK + CONFIG.format(url=upstream.url)) as house:
        yield house


def ask(house: Installation, question: str, key: str | None = None) -> str:
    """Ask through the gateway; the turn that answered it. Raises httpx.HTTPError."""
    token = (house.state / "keys/agent.key").read_text().strip()
    headers = {"Authorization": f"Bearer {token}"} | ({"Idempotency-Key": key} if key else {})
    body = {"model": "m", "max_tokens": 4, "messages": [{"role": "user", "content": question}]}
    url = f"{house.status()['gateway']['url']}/v1/chat/completions"
    answer = httpx.post(url, json=body, headers=headers, timeout=PATIENCE_SECONDS)
    answer.raise_for_status()
    return str(answer.headers["x-epad-turn"])


@contextlib.contextmanager
def asking(house: Installation, upstream: Upstream, **keys: str | None) -> Iterator[None]:
    """Questions under way at the upstream; whoever asked hears nothing of it."""
    upstream.hold()
    with concurrent.futures.ThreadPoolExecutor() as threads:
        asked = [threads.submit(ask, house, question, key) for question, key in keys.items()]
        house.wait(lambda: set(keys) <= set(upstream.asked), "the upstream to be asked")
        yield
        for one in asked:
            assert isinstance(one.exception(timeout=PATIENCE_SECONDS), httpx.HTTPError)


def lost(house: Installation) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = house.ask("recovery")["lost_turns"]
    return turns


def tokens(house: Installation) -> int:
    told = house.subsystem("agent")["tokens"]
    return int(told["input"] + told["output"])


def paid(house: Installation) -> Counter[str]:
    """How often each message was closed as done, by its key; the daemon must have stopped."""
    assert house.verify_ledger().returncode == 0
    return Books.read(house.state / "ledger.db").paid


def test_open_turns_are_asked_again_once_and_paid_once(house: Installation, upstream: Upstream) -> None:
    """Nobody asks but the daemon; who comes back with the key gets that answer, and the model is not asked again."""
    house.start()
    with asking(house, upstream, **{question: f"key {question}" for question in QUESTIONS}):
        house.kill()
    upstream.answer()
    house.start()
    house.wait(lambda: lost(house) == [], "the lost turns to be answered")
    assert upstream.asked == dict.fromkeys(QUESTIONS, 2)
    answered = {question: ask(house, question, f"key {question}") for question in QUESTIONS}
    assert upstream.asked == dict.fromkeys(QUESTIONS, 2)
    assert tokens(house) == 10 * len(QUESTIONS)
    house.stop()
    assert paid(house) == {f"key {question}": 1 for question in QUESTIONS}
    opened = Books.read(house.state / "ledger.db").opened
    assert all(opened[turn] == f"key {question}" for question, turn in answered.items())
    house.start()
    house.wait(lambda: house.status()["phase"] == "NORMAL", "the life after that")
    assert upstream.asked == dict.fromkeys(QUESTIONS, 2)


def test_a_replay_that_is_killed_itself_is_made_again_and_paid_once(
    house: Installation, upstream: Upstream
) -> None:
    """The message is one, however many of its turns were lost; when it is answered none of them is left."""
    house.start()
    with asking(house, upstream, one="key one"):
        house.kill()
    house.start()
    house.wait(lambda: upstream.asked["one"] == 2, "the replay to be under way")
    house.kill()
    upstream.answer()
    house.start()
    house.wait(lambda: lost(house) == [], "the lost turns to be answered")
    assert upstream.asked["one"] == 3
    ask(house, "one", "key one")
    assert upstream.asked["one"] == 3
    assert tokens(house) == 10
    house.stop()
    assert paid(house) == {"key one": 1}


def test_what_failed_twice_or_has_no_key_is_left_to_a_person(house: Installation, upstream: Upstream) -> None:
    """Two replays are killed: there is no third, however often the daemon comes back; both are listed, with why."""
    house.start()
    with asking(house, upstream, one="key one", two=None):
        house.kill()
    for times in (2, 3):
        house.start()
        house.wait(partial(upstream.was_asked, "one", times), "the replay to be under way")
        house.kill()
    upstream.answer()
    house.start()
    house.wait(
        lambda: [t["state"] for t in lost(house)] == ["for a person"] * 4, "nothing to be tried any more"
    )
    why = {turn["idempotency_key"]: turn["why"] for turn in lost(house)}
    assert why["key one"].startswith("asked again 2 time(s)")
    assert why[None].startswith("it has no Idempotency-Key")
    assert upstream.asked == {"one": 3, "two": 1}
    ask(house, "one", "key one")
    assert upstream.asked == {"one": 4, "two": 1}
    house.stop()
    assert paid(house) == {"key one": 1}
