"""What the configuration may declare critical, and what it is told where it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from epad.configuration.load import ConfigError, load

COMMAND = 'command = ["true"]'


def problems(tmp_path: Path, text: str) -> str:
    file = tmp_path / "epad.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file)
    return str(caught.value)


def test_state_and_datastores_are_read(tmp_path: Path) -> None:
    """As in the docs."""
    text = (
        (Path(__file__).parents[2] / "docs/checkpoints.md").read_text().split("```toml\n")[1].split("```")[0]
    )
    file = tmp_path / "epad.toml"
    file.write_text(f"[subsystems.wargame]\n{COMMAND}\n{text}")
    config = load(file)
    assert config.subsystems["wargame"].state.checkpoint_signal == "SIGUSR1"
    assert config.datastores["memory"].subsystem == "wargame"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f'[subsystems.a]\n{COMMAND}\nstate = {{ files = ["../x"] }}', "give paths below"),
        (f'[subsystems.a]\n{COMMAND}\nstate = {{ files = ["x"], databases = ["x"] }}', "name each part once"),
        (
            f'[subsystems.a]\n{COMMAND}\nstate = {{ files = ["x/y"], directories = ["x"] }}',
            "lies inside another",
        ),
        (
            '[subsystems.a]\nkind = "client"\nstate = { checkpoint_signal = "SIGHUP" }',
            "a client has no process",
        ),
        ('[datastores.m]\npath = "memory.db"', "datastores.m.path"),
        ('[datastores.m]\npath = "/m"\nsubsystem = "b"', "names b, which is not a subsystem"),
        ('[datastores.m]\npath = "/m"\nrestore = true', "nothing is replaced under its writer"),
        (
            '[datastores.m]\npath = "/m"\nsubsystem = "a"\nrestore = true\n[subsystems.a]\nkind = "client"',
            "nothing is replaced under its writer",
        ),
        ('[datastores.m]\npath = "/m"\n[datastores.n]\npath = "/m"', "which datastores.m has too"),
    ],
)
def test_what_cannot_be_is_said_with_its_place(tmp_path: Path, text: str, expected: str) -> None:
    """At the start, not in the night when the checkpoint is made."""
    said = problems(tmp_path, text)
    assert expected in said
    assert "epad.toml:" in said
