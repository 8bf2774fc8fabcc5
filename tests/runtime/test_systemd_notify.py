"""The daemon's own word to systemd."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from epad.runtime.systemd_notify import notify


@pytest.mark.parametrize("kind", ["file", "abstract"])
def test_lines_arrive_as_one_datagram(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Both kinds of address that systemd hands out work."""
    monkeypatch.chdir(tmp_path)
    address = f"@epad-test-{os.getpid()}" if kind == "abstract" else f"/proc/self/cwd/{os.getpid()}.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address.replace("@", "\0"))
        assert notify("READY=1", "STATUS=phase NORMAL", environment={"NOTIFY_SOCKET": address})
        assert manager.recv(4096) == b"READY=1\nSTATUS=phase NORMAL"


@pytest.mark.parametrize("address", ["", "/nonexistent/socket", "vsock:2:1234", "relative"])
def test_nobody_to_tell_is_no_error(address: str) -> None:
    """A daemon that systemd did not start, or whose manager is away, goes on."""
    assert notify("READY=1", environment={"NOTIFY_SOCKET": address}) is False
    assert notify("READY=1", environment={}) is False
