"""The configuration of a dry house: nothing in it leads to the real one, and what is asked of each program stays."""

from __future__ import annotations

from pathlib import Path

from epad.configuration.load import load
from epad.configuration.schema import Config
from epad.daemon.dry_run.config import STOP_SECONDS, dry

STUB, GATEWAY, WORK = "unix:/dry/stub.sock", "127.0.0.1:4321", Path("/real/subsystems")
TEXT = """
[daemon]
engine = "systemd"
state_directory = "/real"
[control]
operator_group = "root"
[gateway]
listen = "0.0.0.0:8700"
unknown_fields = "refuse"
[upstreams.far]
url = "https://models.example.org"
dialects = ["openai", "anthropic"]
models = ["gpt*"]
api_key_credential = "far"
served_by = "server"
[datastores.memory]
path = "/real/memory.db"
[subsystems.server]
command = ["./serve", "--for", "localhost:8700", "--beside", "127.0.0.1:87001"]
environment = { GATEWAY = "http://0.0.0.0:8700/v1", OTHER = "http://10.0.0.8:8700 my127.0.0.1:8700" }
health = { inference = "gpt-9" }
listen = "unix:/real/door.sock"
ready_seconds = 7.0
stop_seconds = 60.0
restart = { policy = "always", success_exit_codes = [0, 5] }
budget = { tokens_per_minute = 100 }
[subsystems.there]
command = ["./run", "x"]
working_directory = "/there"
stop_seconds = 1.0
[subsystems.plain]
command = ["sleep", "1"]
health = { tcp = "127.0.0.1:9" }
[subsystems.unit]
kind = "unit"
unit = "ollama.service"
gateway = false
"""


def of(tmp_path: Path, text: str = TEXT, left_alone: tuple[str, ...] = ()) -> tuple[Config, Config]:
    """A configuration, and what a dry house makes of it."""
    file = tmp_path / "epad.toml"
    file.write_text(text)
    config = load(file)
    return config, dry(config, STUB, GATEWAY, WORK, left_alone)


def test_nothing_leads_to_the_real_house(tmp_path: Path) -> None:
    """No listener, no group, no key, no store, no unit; the upstream keeps what a client can see of it."""
    config, made = of(tmp_path)
    assert (made.daemon.engine, made.daemon.state_directory, made.control.operator_group) == ("plain", "", "")
    assert (made.gateway.listen, made.metrics.listen, made.web.listen) == (GATEWAY, "", "")
    assert made.gateway.unknown_fields == "pass"
    assert made.datastores == {}
    far = made.upstreams["far"]
    assert (far.url, far.api_key_credential, far.served_by) == (STUB, "", "")
    assert (far.models, far.dialects) == (config.upstreams["far"].models, config.upstreams["far"].dialects)
    assert {name: spec.listen for name, spec in made.subsystems.items()} == dict.fromkeys(
        config.subsystems, ""
    )
    assert (made.subsystems["unit"].kind, made.subsystems["unit"].gateway) == ("client", False)


def test_a_program_is_asked_what_it_would_be(tmp_path: Path) -> None:
    """Found where it is, led to the dry gateway by every name of this host, run once, stopped in good time."""
    _, made = of(tmp_path)
    server, there, plain = (made.subsystems[name] for name in ("server", "there", "plain"))
    assert server.command[0] == "/real/subsystems/server/serve"
    assert server.command[1:] == ("--for", GATEWAY, "--beside", "127.0.0.1:87001")
    assert server.environment == {
        "GATEWAY": f"http://{GATEWAY}/v1",
        "OTHER": "http://10.0.0.8:8700 my127.0.0.1:8700",
    }
    assert (server.restart.policy, server.restart.success_exit_codes) == ("never", (0, 5))
    assert server.budget.tokens_per_minute == 100
    assert server.health.ways == ()
    assert plain.health.ways == ("tcp",)
    assert (server.stop_seconds, there.stop_seconds) == (STOP_SECONDS, 1.0)
    assert (there.command, there.working_directory) == (("./run", "x"), "/there")


def test_what_must_not_be_started_is_left_alone(tmp_path: Path) -> None:
    """Those that depend on it are not held up."""
    _, made = of(tmp_path, left_alone=("plain",))
    assert {name for name, spec in made.subsystems.items() if spec.kind == "process"} == {"server", "there"}


def test_a_gateway_on_a_port_that_is_chosen_at_its_start_is_named_nowhere(tmp_path: Path) -> None:
    """Port 0 is nobody's address, and no text is changed for it."""
    text = TEXT.replace("8700", "0")
    _, made = of(tmp_path, text)
    assert made.subsystems["server"].environment["GATEWAY"] == "http://0.0.0.0:0/v1"
