"""What runs when nothing is configured."""

from __future__ import annotations

from pathlib import Path

from epad_house import configured
from epad_story import shipped

from epad.configuration.checks import cross_check
from epad.configuration.directories import Directories
from epad.configuration.embedded_default import LOOP_SWITCH, NOTICE, with_embedded_default
from epad.configuration.schema import Config, SubsystemConfig, UpstreamConfig

DIRECTORIES = Directories(Path("/state"), Path("/run/epad"))


def test_nothing_configured_gets_a_model_server_and_two_workloads() -> None:
    """The rest of the configuration is as it was, and the whole is as valid as a person's own."""
    config = with_embedded_default(shipped(), DIRECTORIES)
    assert set(config.subsystems) == {"model", "wargame", "chat"}
    assert config.policy == shipped().policy
    assert list(cross_check(config)) == []
    assert with_embedded_default(config, DIRECTORIES) == config


def test_the_model_server_is_essential_and_reached_through_the_gateway_only() -> None:
    """Its socket is in its own directory; the workloads have a budget, and it has no key."""
    config = with_embedded_default(shipped(), DIRECTORIES)
    (upstream,) = config.upstreams.values()
    assert upstream.url == "unix:/state/subsystems/model/model.sock"
    assert upstream.url in config.subsystems["model"].command
    assert config.subsystems["model"].essential
    assert not config.subsystems["model"].gateway
    for name in ("wargame", "chat"):
        spec = config.subsystems[name]
        assert spec.gateway
        assert spec.depends_on == ("model",)
        assert spec.budget.tokens_per_minute > 0
        assert not spec.essential
    assert LOOP_SWITCH in config.subsystems["chat"].command


def test_each_is_confined_as_far_as_the_machine_can() -> None:
    """So it runs in a container without namespaces too, and says what is missing."""
    config = with_embedded_default(shipped(), DIRECTORIES)
    confined = {name: spec.confine for name, spec in config.subsystems.items()}
    assert {name: one.profile for name, one in confined.items() if one} == {
        "model": "gateway-only",
        "wargame": "workspace",
        "chat": "workspace",
    }
    assert {one.require for one in confined.values() if one} == {"best"}


def test_it_says_that_no_language_model_answers() -> None:
    """The upstream is marked, and the notice is plain."""
    (upstream,) = with_embedded_default(shipped(), DIRECTORIES).upstreams.values()
    assert upstream.embedded
    assert all(pattern.startswith("embedded-") for pattern in upstream.models)
    assert "LLM" in NOTICE


def test_whoever_has_something_of_their_own_gets_nothing_of_ours() -> None:
    """One subsystem or one upstream is enough."""
    own = configured(mine=SubsystemConfig(command=("x",)))
    assert with_embedded_default(own, DIRECTORIES) is own
    fields = {name: getattr(shipped(), name) for name in shipped().__struct_fields__}
    upstream = UpstreamConfig(url="http://127.0.0.1:11434", dialects=("ollama",))
    upstreams = Config(**{**fields, "upstreams": {"ollama": upstream}})
    assert with_embedded_default(upstreams, DIRECTORIES) is upstreams
