"""Listen for the model server: on a TCP address or a Unix socket."""

from __future__ import annotations

import contextlib
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from aiohttp import web

from runners.model.server import ModelServer

DRAIN_SECONDS: Final = 2.0


class ListenError(Exception):
    """The address cannot be listened on."""


@contextlib.asynccontextmanager
async def listening(server: ModelServer, listen: str) -> AsyncIterator[str]:
    """Serve inside the block; gives the real address, also when port 0 was asked for."""
    runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=DRAIN_SECONDS)
    await runner.setup()
    try:
        if listen.startswith("unix:"):
            path = Path(listen.removeprefix("unix:"))
            _unlink_stale(path)
            await web.UnixSite(runner, str(path)).start()
            yield listen
        else:
            host, _, port = listen.rpartition(":")
            if not host or not port.isdecimal():
                raise ListenError("expected HOST:PORT or unix:/path.sock")
            await web.TCPSite(runner, host.strip("[]"), int(port)).start()
            yield f"{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _unlink_stale(path: Path) -> None:
    """Remove a socket that nobody listens on; refuse to take one away from a living server."""
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise ListenError(f"{path} exists and is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(str(path)) == 0:
            raise ListenError(f"another server is listening on {path}")
    path.unlink(missing_ok=True)
