"""Tools of crypto: compared with the standards' own vectors, and with hashes that ask for too much."""

from __future__ import annotations

import base64
import hashlib
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tool_process import World

from runners.tools import crypto

NACL = (
    "$scrypt$ln=10,r=8,p=16$TmFDbA$"
    "/bq+HJ00cgB4VucZDQHp/nxq18vII3gw53N2Y0s3MWIurzDZLiKjiG/xCSedmDDaxyevuUqD7m2DYMvfoswGQA"
)
"""RFC 7914's second vector: the password is `password`, the salt `NaCl`."""


@pytest.mark.parametrize("form", ["urlsafe", "hex", "base64"])
def test_a_secret_has_the_bytes_that_were_asked_for(world: World, form: str) -> None:
    """And says that it is kept nowhere."""
    made = world.worker("generate_secret", bytes=24, format=form)
    text = made["value"]
    value = (
        bytes.fromhex(text) if form == "hex" else base64.urlsafe_b64decode(text.translate({43: 45, 47: 95}))
    )
    assert (len(value), made["bits"]) == (24, 192)
    assert "only copy" in made["kept"]


def test_no_two_calls_share_their_randomness(world: World) -> None:
    """Each call is a fork of the same worker."""
    made = {world.worker("generate_secret")["value"] for _ in range(20)}
    made |= {world.worker("uuid_generate")["uuids"][0] for _ in range(20)}
    assert len(made) == 40


def test_uuids_are_those_of_the_standard(world: World) -> None:
    """Of version 7 in the order in which they were made."""
    for version in (4, 7):
        made = world.worker("uuid_generate", version=version, count=1000)["uuids"]
        assert len(set(made)) == 1000
        assert {(uuid.UUID(each).version, uuid.UUID(each).variant) for each in made} == {
            (version, uuid.RFC_4122)
        }
    assert made == sorted(made)


@given(st.integers(0, (1 << 48) - 2), st.integers(1, 1000))
def test_a_later_moment_sorts_later(moment: int, count: int) -> None:
    """Whatever the counter begins with."""
    made = [*crypto.sortable(moment, count), *crypto.sortable(moment + 1, count)]
    assert made == sorted(made)
    assert uuid.UUID(made[0]).int >> 80 == moment


def test_a_password_is_hashed_and_verified(world: World) -> None:
    """With a new salt each time; what other programs have hashed is verified too."""
    made = [world.worker("password_hash", password="grün 🔑")["hash"] for _ in range(2)]
    assert made[0] != made[1]
    assert world.worker("password_hash", password="grün 🔑", verify=made[0]) == {"matches": True}
    assert world.worker("password_hash", password="grun", verify=made[0]) == {"matches": False}
    _, _, _, salt, digest = made[0].split("$")
    again = hashlib.scrypt(
        "grün 🔑".encode(), salt=base64.b64decode(salt + "=="), n=1 << 16, r=8, p=2, maxmem=1 << 28, dklen=32
    )
    assert base64.b64encode(again).decode().rstrip("=") == digest
    assert world.worker("password_hash", password="password", verify=NACL) == {"matches": True}


HOSTILE: list[tuple[str, dict[str, Any], str]] = [
    (
        "password_hash",
        {"password": "x", "verify": "$scrypt$ln=40,r=8,p=1$YWJj$" + "A" * 43},
        "too much memory",
    ),
    ("password_hash", {"password": "x", "verify": "$scrypt$ln=2,r=1,p=999$YWJj$" + "A" * 43}, ""),
    ("password_hash", {"password": "x", "verify": "$scrypt$ln=16,r=8,p=99$YWJj$" + "A" * 43}, "or time"),
    ("password_hash", {"password": "x", "verify": "$scrypt$ln=0,r=0,p=0$YWJj$" + "A" * 43}, "is none"),
    (
        "password_hash",
        {"password": "x", "verify": "$argon2id$v=19$m=65536,t=3,p=4$c2E$aGE"},
        "none of scrypt's",
    ),
    ("password_hash", {"password": "x", "verify": "$scrypt$ln=4,r=8,p=1$YWJjZ$" + "A" * 43}, "is cut"),
    ("password_hash", {"password": ""}, "length >= 1"),
    ("password_hash", {"password": "x" * 1025}, "length <= 1024"),
    ("generate_secret", {"bytes": 4}, ">= 16"),
    ("generate_secret", {"bytes": 1 << 40}, "<= 256"),
    ("uuid_generate", {"version": 1}, "wrong arguments"),
    ("uuid_generate", {"count": 10**9}, "<= 1000"),
]


@pytest.mark.parametrize(("tool", "arguments", "said"), HOSTILE)
def test_too_little_and_too_much_are_refused(
    world: World, tool: str, arguments: dict[str, Any], said: str
) -> None:
    """A hash says how much memory its check takes: so does a hostile one."""
    if not said:
        assert world.worker(tool, **arguments) == {"matches": False}
        return
    assert said in world.worker.refusal(tool, **arguments)
