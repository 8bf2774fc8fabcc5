"""Keep the browser of a worker: started before its first call, still between calls, killed with the worker.

Calls speak to it by its DevTools port, inside the worker's own network. Between calls it is stopped by SIGSTOP, with
all of its processes: no page runs, polls or sends while nobody has called, and a held subsystem's pages are as still as
it is.

The browser's own sandbox makes namespaces, which a cell refuses, so it runs without: the cell is the sandbox. It has no
file but the system's, and one address to connect to; each page has a profile of its own, but a page that takes its
renderer over has the other pages of that subsystem.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from runners.tools import program_paths
from runners.tools.signature import Address

START_SECONDS: Final = 50.0
_POLL_SECONDS: Final = 0.02
_PREFERENCES: Final = '{"webrtc": {"ip_handling_policy": "disable_non_proxied_udp"}}'
"""No option is obeyed for this: a page's WebRTC would send by UDP past the proxy."""
_OPTIONS: Final = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--no-default-browser-check"),
    *(
        "--remote-debugging-port=0",
        "--disable-quic",
        "--mute-audio",
        "--disable-extensions",
        "--disable-sync",
    ),
    *("--disable-background-networking", "--disable-component-update", "--disable-domain-reliability"),
    *("--disable-breakpad", "--disable-crash-reporter", "--metrics-recording-only", "--no-pings"),
    "--proxy-bypass-list=<-loopback>",
    *("--dns-prefetch-disable", "--log-level=3"),
    "--disable-features=EncryptedClientHello,Translate,OptimizationHints,MediaRouter",
)


class BrowserProcess:
    """The browser of one worker. `place` is that of its DevTools, or why there is none."""

    def __init__(self, way_out: Address | None) -> None:
        self.place = ""
        self.port = 0
        self._way_out = way_out
        self._process: subprocess.Popen[bytes] | None = None

    def go_on(self) -> None:
        """Let it run for a call; it is started where it does not, or has ended."""
        if self._process is not None and self._process.poll() is None:
            self._signal(signal.SIGCONT)
            return
        program = program_paths.chromium()
        if self._way_out is None:
            self.place = "there is no way out from here: no page is reached"
        elif not program:
            self.place = "there is no Chromium on this machine"
        else:
            host, port = self._way_out
            self._start(program, f"--proxy-server=http://{host}:{port}")

    def stop(self) -> None:
        """Let it stand still: no call is under way."""
        self._signal(signal.SIGSTOP)

    def kill(self) -> None:
        """End it."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def _start(self, program: str, proxy: str) -> None:
        self.place = ""
        home = Path(tempfile.mkdtemp(prefix="browser-"))
        own = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"), str(home))
        (home / "Default").mkdir()
        (home / "Default/Preferences").write_text(_PREFERENCES)
        command = (program, *_OPTIONS, proxy, f"--user-data-dir={home}", "about:blank")
        try:
            with (home / "errors").open("wb") as errors:
                self._process = subprocess.Popen(
                    command,
                    env={**os.environ, **own, "DBUS_SESSION_BUS_ADDRESS": "disabled:"},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    start_new_session=True,
                )
        except OSError as error:
            self.place = f"Chromium cannot be run: {error.strerror}"
            return
        end = time.monotonic() + START_SECONDS
        while not self.place and self._process.poll() is None and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
            self._read_place(home / "DevToolsActivePort")
        if not self.place:
            said = (home / "errors").read_text(errors="replace").strip().rpartition("\n")[2]
            self.place = f"Chromium did not begin: {said[:300] or 'it said nothing'}"
            self.kill()

    def _read_place(self, file: Path) -> None:
        """Read where it listens, once it has written that."""
        with suppress(OSError, ValueError):
            port, path = file.read_text().split("\n")[:2]
            self.port = int(port)
            self.place = f"ws://127.0.0.1:{self.port}{path}"
