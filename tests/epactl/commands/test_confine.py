"""`epactl confine diff`, `confine learn`, and a reload with a reason."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from control_door import Door

from epad.epactl import main
from epad.operations.bodies import LearnOrder, ReloadOrder
from epad.operations.learning import RECORDING


async def epactl(door: Door, *words: str) -> int:
    return await asyncio.to_thread(main.main, ["--socket", str(door.path), *words])


async def test_what_a_reload_would_change_is_a_line_each(
    door: Door, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what it takes to do it."""
    assert await epactl(door, "confine", "diff") == 0
    assert capsys.readouterr().out == "a reload would change no policy\n"
    line = "agent: + connect *.github.com:443, as any.github.com:443; at once"
    door.operations.policy_changes = {
        "needs_reason": True,
        "changes": [{"subsystem": "agent", "widens": [], "narrows": [], "asks": None, "lines": [line]}],
    }
    assert await epactl(door, "confine", "diff") == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == line
    assert 'epactl reload --reason "..."' in told[1]
    assert await epactl(door, "confine", "diff", "--json") == 0
    assert json.loads(capsys.readouterr().out)["needs_reason"] is True


async def test_only_a_persons_reason_lets_a_reload_widen(door: Door) -> None:
    """Without one it is asked for all the same, and may be refused."""
    assert await epactl(door, "reload") == 0
    assert await epactl(door, "reload", "--reason", "it reads issues") == 0
    assert door.operations.bodies == [
        ReloadOrder(reason="asked for", may_widen=False),
        ReloadOrder(reason="it reads issues", may_widen=True),
    ]


async def test_a_recording_becomes_a_table(
    door: Door, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Ready to be put into the configuration; what is left out is told as comments."""
    file = tmp_path / "subsystems/chat" / RECORDING
    file.parent.mkdir(parents=True)
    paths = ("/srv/models/m.gguf", "/etc/shadow")
    hexadecimal = ["".join(f"\\x{byte:02x}" for byte in path.encode()) for path in paths]
    file.write_text("".join(f'7 openat(AT_FDCWD</>, "{one}", O_RDONLY) = 3<{one}>\n' for one in hexadecimal))
    door.operations.answer["state_directory"] = str(tmp_path)
    assert await epactl(door, "confine", "learn", "chat", "--for", "1s", "--reason", "r") == 0
    assert door.operations.bodies == [LearnOrder(reason="r", seconds=1.0)]
    told = capsys.readouterr().out
    assert '[subsystems.chat.confine]\nprofile = "workspace"\nread = ["/srv/models/m.gguf"]\n' in told
    assert "# read /etc/shadow: keys and sessions are never given" in told
    door.operations.failed = True
    assert await epactl(door, "confine", "learn", "chat", "--for", "1s", "--reason", "r") == 1
    assert await epactl(door, "confine", "learn", "nobody", "--reason", "r") == 4
    assert await epactl(door, "confine", "learn", "chat", "--for", "always", "--reason", "r") == 2
