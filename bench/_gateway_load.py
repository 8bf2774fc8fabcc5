"""Load: wrk where it is installed, else a generator of our own. Every request has a prompt of its own.

epad takes the same prompt five times in a row for a loop, and is right to; so a counter goes into each.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

_LUA = """
local n, bad = 0, 0
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer KEY"
function request()
  n = n + 1
  return wrk.format(nil, nil, nil, string.format('BODY', n))
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format('EPAD{"requests":%d,"us":%d,"p50":%d,"p99":%d,"refused":%d,"broken":%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.status, e.connect + e.read + e.write + e.timeout))
end
"""
_PROMPT = "Summarise the state of the build, name the failing tests, and propose one next step. Round %d."


@dataclass(frozen=True, slots=True)
class Load:
    """What one burst of requests came to. `refused` counts answers that are neither 2xx nor 3xx."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    refused: int
    broken: int

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


def body(*, stream: bool, model: str = "bench") -> str:
    """A request's body with a place for a number in it."""
    fields = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You are a careful engineer."},
            {"role": "user", "content": _PROMPT},
        ],
        "max_tokens": 64,
    }
    return json.dumps(fields | ({"stream": True} if stream else {}))


@dataclass(frozen=True, slots=True)
class Generator:
    """Makes load on one core."""

    core: int
    directory: Path

    @property
    def name(self) -> str:
        return "wrk" if shutil.which("wrk") else "built in (wrk is not installed)"

    def run(self, port: int, key: str, *, connections: int, seconds: float, stream: bool = False) -> Load:
        """Load a port with as many connections for so long, and wait for the end of it."""
        process = self.start(port, key, connections=connections, seconds=seconds, stream=stream)
        return self.finish(process)

    def start(
        self, port: int, key: str, *, connections: int, seconds: float, stream: bool = False
    ) -> subprocess.Popen[str]:
        """Begin; `finish` waits for the end."""
        script = self.directory / f"load-{port}-{connections}-{key[-6:]}-{stream}.lua"
        script.write_text(_LUA.replace("KEY", key).replace("BODY", body(stream=stream)))
        wrk = shutil.which("wrk")
        options = [
            "-t1",
            f"-c{connections}",
            f"-d{max(1, round(seconds))}s",
            "--timeout",
            "10s",
            "-s",
            str(script),
        ]
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        own = ["python3", __file__, str(port), key, str(connections), str(seconds), str(int(stream))]
        argv = [wrk, *options, url] if wrk else own
        return subprocess.Popen(
            ["taskset", "-c", str(self.core), *argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str]) -> Load:
        """Wait for the load's end and read what it says."""
        said = process.communicate(timeout=600)[0]
        line = next((line for line in said.splitlines() if line.startswith("EPAD")), None)
        if line is None:
            raise RuntimeError(f"the load generator failed: {said[-500:]}")
        numbers = json.loads(line.removeprefix("EPAD"))
        return Load(
            requests=numbers["requests"],
            seconds=numbers["us"] / 1e6,
            p50_ms=numbers["p50"] / 1e3,
            p99_ms=numbers["p99"] / 1e3,
            refused=numbers["refused"],
            broken=numbers["broken"],
        )


class _Own:
    """The generator for where wrk is not: one task a connection."""

    def __init__(self, port: int, key: str, template: str, until: float) -> None:
        self._port, self._key, self._template, self._until = port, key, template, until
        self.micros: list[int] = []
        self.refused = self.broken = self._number = 0

    async def connection(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        while time.monotonic() < self._until:
            self._number += 1
            payload = (self._template % self._number).encode()
            began = time.monotonic()
            writer.write(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                b"Authorization: Bearer %s\r\nContent-Length: %d\r\n\r\n"
                % (self._key.encode(), len(payload))
                + payload
            )
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: *(\d+)", head)
                await (reader.readexactly(int(length[1])) if length else reader.readuntil(b"\r\n0\r\n\r\n"))
            except (OSError, asyncio.IncompleteReadError):
                self.broken += 1
                return
            self.refused += not head.startswith(b"HTTP/1.1 200")
            self.micros.append(int((time.monotonic() - began) * 1e6))
        writer.close()


async def _generate(port: int, key: str, connections: int, seconds: float, *, stream: bool) -> None:
    began = time.monotonic()
    own = _Own(port, key, body(stream=stream), began + seconds)
    await asyncio.gather(*(own.connection() for _ in range(connections)))
    micros = sorted(own.micros) or [0]
    numbers = {
        "requests": len(own.micros),
        "us": int((time.monotonic() - began) * 1e6),
        "p50": micros[len(micros) // 2],
        "p99": micros[len(micros) * 99 // 100],
        "refused": own.refused,
        "broken": own.broken,
    }
    print("EPAD" + json.dumps(numbers))


if __name__ == "__main__":
    import sys

    asyncio.run(
        _generate(
            int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), stream=sys.argv[5] == "1"
        )
    )
