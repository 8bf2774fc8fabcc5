"""Keys: whose they are, and what is kept of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from multidict import CIMultiDict

from epad.gateway.errors import IdentityError
from epad.gateway.identity import KEY_SCHEMA, Identities
from epad.storage.database import Database
from statemachine.clock import ManualClock


@pytest.fixture
async def database(tmp_path: Path):
    database = Database(tmp_path / "state.db", KEY_SCHEMA)
    await database.open()
    yield database
    await database.close()


def bearer(key: str) -> CIMultiDict[str]:
    return CIMultiDict({"authorization": f"Bearer {key}"})


async def test_a_key_names_its_subsystem_in_either_header(database: Database) -> None:
    """OpenAI's and Ollama's clients send a bearer token, Anthropic's an x-api-key."""
    identities = Identities(database, ManualClock())
    key = await identities.issue("agent-1")
    assert key.startswith("epad-agent-1-")
    assert identities.resolve(bearer(key)) == "agent-1"
    assert identities.resolve(CIMultiDict({"X-Api-Key": key})) == "agent-1"


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": ""}, {"Authorization": "Bearer"}, {"Authorization": "Basic abc"},
     {"Authorization": "Bearer epad-agent-1-guess"}, {"x-api-key": "\udcff"}],
)  # fmt: skip
async def test_nothing_else_names_anyone(database: Database, headers: dict[str, str]) -> None:
    """No key, another scheme, a guess, bytes that are no text: nobody."""
    identities = Identities(database, ManualClock())
    await identities.issue("agent-1")
    assert identities.resolve(CIMultiDict(headers)) is None


async def test_only_hashes_are_stored_and_survive_a_restart(database: Database) -> None:
    """The file gives no key away, and a child adopted after a restart keeps its own."""
    key = await Identities(database, ManualClock()).issue("agent")
    rows = await database.read(
        lambda c: list(c.execute("SELECT subsystem, hex(key_sha256) FROM subsystem_key"))
    )
    assert len(rows) == 1
    assert key not in str(rows)
    restarted = Identities(database, ManualClock())
    assert restarted.resolve(bearer(key)) is None
    await restarted.load()
    assert restarted.resolve(bearer(key)) == "agent"


async def test_revoking_spares_the_newest_if_told_to(database: Database) -> None:
    """Rotation: issue, hand over, revoke the former ones; other subsystems keep theirs."""
    identities = Identities(database, ManualClock())
    old, new, other = [await identities.issue(name) for name in ("agent", "agent", "other")]
    assert identities.resolve(bearer(old)) == identities.resolve(bearer(new)) == "agent"
    assert await identities.revoke("agent", except_newest=True) == 1
    assert identities.resolve(bearer(old)) is None
    assert identities.resolve(bearer(new)) == "agent"
    assert await identities.revoke("agent") == 1
    assert identities.resolve(bearer(new)) is None
    assert identities.resolve(bearer(other)) == "other"
    restarted = Identities(database, ManualClock())
    await restarted.load()
    assert restarted.resolve(bearer(new)) is None


async def test_a_name_that_is_no_name_gets_no_key(database: Database) -> None:
    """The key is a header's value: nothing strange may get into it."""
    with pytest.raises(IdentityError, match="no key for 'a b'"):
        await Identities(database, ManualClock()).issue("a b")
