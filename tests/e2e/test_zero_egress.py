"""Zero egress: the whole product is used where every packet that would leave is recorded, and there is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from machine_lacks import THINGS
from patience import PATIENCE_SECONDS

SUPPORT = Path(__file__).parents[1] / "support"
SCRIPT = SUPPORT / "recorded_network.py"

pytestmark = pytest.mark.skipif(
    THINGS["a network of its own"](), reason="needs a namespace with a network of its own"
)


def attempts(folder: Path, *command: str) -> tuple[list[list[str | int]], str]:
    """Run a command where packets are recorded; return them, and what it printed."""
    report = folder / "report.json"
    rights = ["--net", "--mount"] if os.geteuid() == 0 else ["--net", "--mount", "--user", "--map-root-user"]
    done = subprocess.run(
        ["unshare", *rights, sys.executable, SCRIPT, report, *command],
        env={**os.environ, "PYTHONPATH": str(SUPPORT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=4 * PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4_000:]
    found: list[list[str | int]] = json.loads(report.read_text())
    return found, done.stdout


TRIES = {
    "a name": ("import socket\ntry: socket.getaddrinfo('example.com', 443)\nexcept OSError: pass", "udp", 53),
    "a connection": ("s = socket.socket(); s.settimeout(0.1); s.connect_ex(('1.1.1.1', 443))", "tcp", 443),
    "a connection by IPv6": (
        "s = socket.socket(socket.AF_INET6); s.settimeout(0.1); s.connect_ex(('2606:4700::1111', 80))",
        "tcp",
        80,
    ),
    "a datagram": ("socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('8.8.8.8', 123))", "udp", 123),
}


@pytest.mark.parametrize("what", TRIES)
def test_each_attempt_is_recorded(tmp_path: Path, what: str) -> None:
    """Planted: the recorder sees whatever leaves."""
    code, protocol, port = TRIES[what]
    found, _ = attempts(tmp_path, sys.executable, "-c", f"import socket\n{code}")
    assert (protocol, port) in {(kind, to) for kind, _, to in found}


def test_nothing_of_the_product_tries_to_leave(tmp_path: Path) -> None:
    """The newcomer's daemon with its page and its orders, a confined agent, and all tools by their examples."""
    found, said = attempts(tmp_path, sys.executable, str(SUPPORT / "day_without_network.py"), str(tmp_path))
    assert "tools called: 1" in said
    assert found == []
