"""The read-only HTTP surface for machines: Prometheus text and a health check, on loopback."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web

from epad.answers.status import Status
from epad.listeners.aiohttp_site import Site, url
from epad.listeners.browser_origin import refuse_name, refuse_site, without_port
from epad.metrics.registry import CONTENT_TYPE, Metrics
from epad.runtime.descriptors import share

# Scrapers are few; browsers of people who look are not many more.
_MAX_CONNECTIONS = 128
_PART = 0.1

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class SurfaceError(Exception):
    """The metrics address could not be listened on."""


class MetricsServer:
    """Serves /metrics and /healthz. A scrape reads memory only and never waits for a probe."""

    def __init__(
        self,
        listen: str,
        metrics: Metrics,
        refresh: Callable[[], Status],
        hosts: Iterable[str] = (),
    ) -> None:
        """`hosts` are the public names that it is scraped by."""
        self._listen = listen
        self._metrics = metrics
        self._refresh = refresh
        self._hosts = frozenset(map(without_port, (*hosts, listen)))
        self._site: Site | None = None
        self.url = ""
        """Where it is now; empty while it is nowhere."""

    async def start(self) -> str:
        """Listen and return the URL; an empty `listen` means off. Raises SurfaceError."""
        self.url = ""
        if not self._listen:
            return ""
        app = web.Application(client_max_size=1024, middlewares=[self._guarded])
        app.add_routes([web.get("/metrics", self._show_metrics), web.get("/healthz", self._show_health)])
        self._site = Site(app, "metrics", share(_PART, _MAX_CONNECTIONS))
        try:
            address = await self._site.listen(self._listen)
        except OSError as error:
            raise SurfaceError(
                f'metrics.listen = {self._listen!r}: {error.strerror}: choose another port, or "" for none'
            ) from error
        self.url = url(address, "/metrics")
        return self.url

    async def stop(self) -> None:
        if self._site is not None:
            await self._site.stop()
            self._site = None
        self.url = ""

    async def move(self, listen: str, hosts: Iterable[str]) -> str:
        """Listen there from now on, by these names, and return the URL.

        Raises SurfaceError, and then it listens where it did.
        """
        former = self._listen, self._hosts
        await self.stop()
        self._listen, self._hosts = listen, frozenset(map(without_port, (*hosts, listen)))
        try:
            return await self.start()
        except SurfaceError:
            self._listen, self._hosts = former
            await self.start()
            raise

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse requests from pages of other sites: the programs of this machine are not theirs to see."""
        said = request.headers
        strange = refuse_name(said.get("Host"), self._hosts)
        if strange:
            return web.Response(status=421, text=f"{strange}: name the host in [metrics] hosts\n")
        strange = refuse_site(said.get("Origin"), said.get("Sec-Fetch-Site"), said.get("Host"), self._hosts)
        if strange:
            return web.Response(status=403, text=f"{strange}\n")
        return await handler(request)

    async def _show_metrics(self, _: web.Request) -> web.Response:
        self._refresh()
        return web.Response(body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    async def _show_health(self, _: web.Request) -> web.Response:
        status = self._refresh()
        return web.json_response({"phase": status["phase"], "uptime_seconds": status["uptime_seconds"]})
