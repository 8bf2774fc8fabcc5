"""The read-only HTTP surface for machines: Prometheus text and a health check, on loopback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from epad.metrics import CONTENT_TYPE, Metrics


class SurfaceError(Exception):
    """The metrics address could not be listened on."""


class MetricsServer:
    """Serves /metrics and /healthz. A scrape reads memory only and never waits for a probe."""

    def __init__(self, listen: str, metrics: Metrics, refresh: Callable[[], dict[str, Any]]) -> None:
        self._listen = listen
        self._metrics = metrics
        self._refresh = refresh
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Listen and return the URL; an empty `listen` means off. Raises SurfaceError."""
        if not self._listen:
            return ""
        app = web.Application(client_max_size=1024)
        app.add_routes([web.get("/metrics", self._show_metrics), web.get("/healthz", self._show_health)])
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        host, _, port = self._listen.rpartition(":")
        site = web.TCPSite(self._runner, host.strip("[]"), int(port))
        try:
            await site.start()
        except OSError as error:
            raise SurfaceError(
                f'metrics.listen = {self._listen!r}: {error.strerror}: choose another port, or "" for none'
            ) from error
        bound = self._runner.addresses[0]
        name = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        return f"http://{name}:{bound[1]}/metrics"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _show_metrics(self, _: web.Request) -> web.Response:
        self._refresh()
        return web.Response(body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    async def _show_health(self, _: web.Request) -> web.Response:
        status = self._refresh()
        return web.json_response({"phase": status["phase"], "uptime_seconds": status["uptime_seconds"]})
