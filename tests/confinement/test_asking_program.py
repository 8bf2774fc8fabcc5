"""The program at the other end of a connection, found in the kernel's tables."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from epad.confinement.asking_program import asking_program

CLIENT = "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); sys.stdin.read()"


def test_a_program_is_named_by_its_port() -> None:
    """With its command as it is typed, and its pid; a port that nobody has is nobody's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = (sys.executable, "-S", "-c", CLIENT, str(listener.getsockname()[1]))
        with subprocess.Popen(command, stdin=subprocess.PIPE) as client:
            accepted, (_, port) = listener.accept()
            with accepted:
                said = asking_program(os.getpid(), port)
                assert asking_program(os.getpid(), 1) == ""
            client.communicate()
    assert said.startswith(f"{sys.executable} -S -c import socket")
    assert said.endswith(f"(pid {client.pid})")
    assert len(said) < 250


def test_an_ended_cell_has_no_program(tmp_path: Path) -> None:
    assert asking_program(1, 80, tmp_path) == ""
