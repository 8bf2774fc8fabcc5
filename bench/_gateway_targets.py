"""The programs under load, each pinned to one core: nginx, a bare aiohttp proxy, LiteLLM's proxy, and epad."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_HERE = Path(__file__).parent
_BIN = Path(sys.executable).parent
_STARTUP_SECONDS = 120.0
_SETTLE_SECONDS, _SETTLE_STEP_SECONDS = 5.0, 0.1
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "epad-bench"

NGINX = """
worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  keepalive_requests 100000000;
  upstream stub {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://stub;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""

LITELLM = """
model_list:
  - model_name: bench
    litellm_params: {{model: openai/bench, api_base: "http://127.0.0.1:{upstream}/v1", api_key: unused}}
litellm_settings: {{num_retries: 0, callbacks: [], json_logs: true, telemetry: false}}
general_settings: {{master_key: "{key}"}}
"""

EPAD = """
[gateway]
listen = "127.0.0.1:{port}"
refusals_before_rest = {refusals}
[web]
listen = ""
[metrics]
listen = "127.0.0.1:0"
[schedule]
nightly_verify = ""
checkpoint = ""
[upstreams.stub]
url = "http://127.0.0.1:{upstream}/v1"
dialects = ["openai"]
models = ["bench"]
[upstreams.hold]
url = "http://127.0.0.1:{hold}/v1"
dialects = ["openai"]
models = ["hold"]
[subsystems.good]
kind = "client"
essential = true
budget = {{ tokens_per_minute = 1000000000000, tokens_per_day = 1000000000000, max_in_flight = 64 }}
[subsystems.hammer]
kind = "client"
budget = {{ tokens_per_minute = 2000, max_in_flight = 64 }}
{listen}
"""


class Skip(Exception):  # noqa: N818 - nothing is wrong with the benchmark
    """A target that cannot run here; the message is the line that says so."""


@dataclass(slots=True)
class Target:
    """A running program, and how to ask it."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    key: str = "none"
    keys: Mapping[str, str] = field(default_factory=dict)

    def cpu_seconds(self) -> float:
        """Processor time of the program and its children, to the nanosecond; those that ended count too."""
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(self.process.pid)
            ended = root.cpu_times()
            alive = [root, *root.children(recursive=True)]
            return (
                sum(_process_clock(each.pid) for each in alive) + ended.children_user + ended.children_system
            )
        raise RuntimeError(f"{self.name} has ended")

    def settle(self) -> None:
        """Wait until it has let go of what the load left behind, so that nothing runs into the next one."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        before = self.cpu_seconds()
        while time.monotonic() < deadline:
            time.sleep(_SETTLE_STEP_SECONDS)
            now = self.cpu_seconds()
            if now - before < _SETTLE_STEP_SECONDS / 10:
                return
            before = now

    def pss_bytes(self) -> int:
        """Memory that is the program's own, and its share of what it shares; its children's too."""
        root = psutil.Process(self.process.pid)
        return sum(_pss(each.pid) for each in (root, *root.children(recursive=True)))

    def stop(self) -> None:
        """End it, and wait."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _process_clock(pid: int) -> float:
    # clock_getcpuclockid(3): the kernel's id of another process's CPU clock.
    with contextlib.suppress(OSError):
        return time.clock_gettime((~pid << 3) | 2)
    return 0.0


def _pss(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def free_port() -> int:
    """A loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Launcher:
    """Starts targets in a directory of their own, on one core, before one upstream."""

    directory: Path
    core: int
    upstream: int

    def stub(self, core: int) -> Target:
        """The upstream itself."""
        argv = [sys.executable, str(_HERE / "_gateway_stub.py"), str(self.upstream)]
        return self._start("direct", self.upstream, argv, core=core)

    def nginx(self) -> Target:
        """A proxy in C, one worker. Raises Skip."""
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if program is None:
            raise Skip("nginx: not installed (apt-get install nginx-light)")
        port = free_port()
        config = self.directory / "nginx.conf"
        config.write_text(NGINX.format(directory=self.directory, port=port, upstream=self.upstream))
        return self._start("nginx", port, [program, "-p", str(self.directory), "-c", str(config)])

    def proxy(self) -> Target:
        """The bare aiohttp proxy."""
        port = free_port()
        argv = [sys.executable, str(_HERE / "_gateway_proxy.py"), str(port), str(self.upstream)]
        return self._start("aiohttp", port, argv)

    def litellm(self) -> Target:
        """LiteLLM's proxy with nothing switched on, one worker, no database. Raises Skip."""
        program = _install_litellm()
        port, key = free_port(), f"sk-{secrets.token_hex(16)}"
        config = self.directory / "litellm.yaml"
        config.write_text(LITELLM.format(upstream=self.upstream, key=key))
        argv = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        environment = {
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOG": "ERROR",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        }
        target = self._start("litellm", port, [*argv, "--num_workers", "1"], environment=environment)
        target.key = key
        return target

    def epad(self, hold_port: int = 1, *, hammer_port: int = 0, rests: bool = True, more: str = "") -> Target:
        """The installed `epad run`: everything on, its ledger durable, two clients.

        `hammer_port` gives the hammering client a listener of its own; without `rests` it is refused as fast as
        it asks. `more` is put behind its configuration.
        """
        port = free_port()
        listen = f'listen = "127.0.0.1:{hammer_port}"' if hammer_port else ""
        state = self.directory / f"epad-{port}"
        config = self.directory / f"epad-{port}.toml"
        config.write_text(
            EPAD.format(
                port=port,
                upstream=self.upstream,
                hold=hold_port,
                listen=listen,
                refusals=100 if rests else 1_000_000_000,
            )
            + more
        )
        argv = [str(_BIN / "epad"), "run", "--config", str(config), "--state", str(state)]
        target = self._start("epad", port, argv)
        files = {name: state / "keys" / f"{name}.key" for name in ("good", "hammer")}
        _wait(
            lambda: all(file.exists() and file.read_text() for file in files.values()), "epad's keys", target
        )
        target.keys = {name: file.read_text().strip() for name, file in files.items()}
        target.key = target.keys["good"]
        return target

    def _start(
        self,
        name: str,
        port: int,
        argv: list[str],
        *,
        core: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Target:
        log = (self.directory / f"{name}.log").open("ab")
        pinned = ["taskset", "-c", str(self.core if core is None else core), *argv]
        process = subprocess.Popen(pinned, stdout=log, stderr=log, env={**os.environ, **(environment or {})})
        log.close()
        target = Target(name, port, process)
        _wait(lambda: _listens(port), f"{name} to listen (see {log.name})", target)
        return target


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
        return True
    return False


def _wait(holds: object, what: str, target: Target) -> None:
    deadline = time.monotonic() + _STARTUP_SECONDS
    assert callable(holds)
    while not holds():
        if target.process.poll() is not None or time.monotonic() > deadline:
            target.process.kill()
            raise Skip(f"{target.name}: waited in vain for {what}")
        time.sleep(0.05)


def _install_litellm() -> Path:
    """LiteLLM in a virtual environment of its own, made once. Raises Skip."""
    program = CACHE / "litellm/bin/litellm"
    if program.exists():
        return program
    CACHE.mkdir(parents=True, exist_ok=True)
    steps = (
        [sys.executable, "-m", "venv", str(CACHE / "litellm")],
        [str(CACHE / "litellm/bin/pip"), "install", "-q", "litellm[proxy]"],
    )
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False, timeout=900)
        if done.returncode != 0:
            raise Skip(f"litellm: cannot be installed: {(done.stderr or done.stdout).strip()[-200:]}")
    return program
