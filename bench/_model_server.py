r"""The model server of a bench: a real one that the environment names, or the stub.

EPAD_REAL_SERVE='transformers serve MODEL --port 18081' EPAD_REAL_OPENAI_URL=http://127.0.0.1:18081/v1 \
        EPAD_REAL_MODEL=MODEL python bench/...
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[1]
STUB_MILLISECONDS = 400
IN_FRONT = """
[gateway]
listen = "127.0.0.1:0"
[metrics]
listen = ""
[web]
listen = ""
[upstreams.real]
url = "{url}"
dialects = ["openai"]
models = ["*"]
free = true
"""
"""The configuration of an epad in front of it, with no door but the gateway's."""


@dataclass
class Server:
    """A model server that can be killed and started again, with all that belongs to it."""

    command: Sequence[str]
    url: str
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        where = urlsplit(self.url)
        for _ in range(1_200):
            with contextlib.suppress(OSError), socket.create_connection((where.hostname, where.port), 1.0):
                return
            time.sleep(0.1)
        raise SystemExit(f"no model server at {self.url}")

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
            self.process = None


def the_server() -> tuple[Server, str]:
    """The real server that the environment names, or the stub; and the model."""
    url, serve = os.environ.get("EPAD_REAL_OPENAI_URL", ""), os.environ.get("EPAD_REAL_SERVE", "")
    if url and serve:
        return Server(shlex.split(serve), url), os.environ["EPAD_REAL_MODEL"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    stub = [sys.executable, str(ROOT / "bench/_wargame_stub.py"), str(port), str(STUB_MILLISECONDS)]
    return Server(stub, f"http://127.0.0.1:{port}/v1"), "bench"
