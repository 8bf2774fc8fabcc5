"""What a child finds in its environment."""

from __future__ import annotations

from epad_story import memory_database

from epad.configuration.confine_schema import ConfineConfig
from epad.configuration.schema import SubsystemConfig
from epad.confinement.decoys import Decoys
from epad.gateway.child_environment import Environments
from epad.gateway.identity import KEY_SCHEMA, Identities
from statemachine.clock import ManualClock


def environments() -> tuple[Environments, Identities]:
    identities = Identities(memory_database(KEY_SCHEMA), ManualClock())
    specs = {"chat": SubsystemConfig(command=("x",)), "model": SubsystemConfig(command=("x",), gateway=False)}
    made = Environments(specs, identities)
    made.gateway_url = "http://127.0.0.1:8700"
    return made, identities


async def test_a_child_finds_the_gateway_in_every_dialects_words() -> None:
    """The one key, and the address with the path that each client expects."""
    made, identities = environments()
    variables = await made.of("chat")
    key = variables["EPAD_GATEWAY_KEY"]
    assert variables == {
        "EPAD_GATEWAY_URL": "http://127.0.0.1:8700",
        "EPAD_GATEWAY_KEY": key,
        "OPENAI_BASE_URL": "http://127.0.0.1:8700/v1",
        "OPENAI_API_KEY": key,
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:8700",
        "ANTHROPIC_API_KEY": key,
        "OLLAMA_HOST": "http://127.0.0.1:8700",
        "OLLAMA_API_KEY": key,
    }
    assert identities.resolve({"Authorization": f"Bearer {key}"}) == "chat"
    assert identities.resolve({"x-api-key": key}) == "chat"


async def test_a_decoy_is_planted_where_it_is_wanted() -> None:
    """Under names that no library reads, whether or not there is a gateway."""
    decoys, identities = Decoys(b"a secret"), Identities(memory_database(KEY_SCHEMA), ManualClock())
    spec = SubsystemConfig(command=("x",), gateway=False, confine=ConfineConfig(decoys=True))
    plain = SubsystemConfig(command=("x",), gateway=False, confine=ConfineConfig())
    made = Environments({"chat": spec, "model": plain}, identities, decoys=decoys)
    assert await made.of("chat") == decoys.variables("chat")
    assert await made.of("model") == {}


async def test_every_start_revokes_the_key_of_the_one_before() -> None:
    """A process that was meant to be gone can spend nothing."""
    made, identities = environments()
    former = (await made.of("chat"))["EPAD_GATEWAY_KEY"]
    key = (await made.of("chat"))["EPAD_GATEWAY_KEY"]
    assert identities.resolve({"Authorization": f"Bearer {former}"}) is None
    assert identities.resolve({"Authorization": f"Bearer {key}"}) == "chat"


async def test_one_that_does_not_use_the_gateway_is_told_nothing_of_it() -> None:
    """No key, so none to leak."""
    made, _ = environments()
    assert await made.of("model") == {}
