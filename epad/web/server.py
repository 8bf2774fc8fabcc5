"""Serve the status page: guard requests, render the pages, stream the changes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from epad import EpadError
from epad.answers.decisions import Event
from epad.answers.orders import Result
from epad.api.unix import ControlSocketError, bind
from epad.configuration.schema import WebConfig
from epad.gate.permissions import allow
from epad.gate.persons import Person
from epad.listeners.aiohttp_site import Site, url
from epad.operations.bodies import OrderBody
from epad.operations.protocol import (
    ConflictError,
    OperationError,
    Operations,
    Peer,
    UnknownNameError,
    UnknownSubsystemError,
)
from epad.operations.registry import MAX_REASON_CHARACTERS, Operation
from epad.runtime.descriptors import share
from epad.web import guard
from epad.web.alerts import MAX_BODY_BYTES, AlertDoor
from epad.web.approval_form import ApprovalFormError, read_answer
from epad.web.callers import CALLER, NoPersonError, Proxy, by_token
from epad.web.page import (
    PAGE_ORDERS,
    Detail,
    Overview,
    Questions,
    approvals_page,
    detail_page,
    error_page,
    overview_main,
    overview_page,
)
from epad.web.reports import REPORT_POLICY, ReportError, Reports
from epad.web.token import PageToken, keep_token, make_token
from epad.web.token_field import SIGNED_IN

SHOWN_EVENTS = 50
MAX_FOLLOWERS = 32
# A status changes without an event too: time passes, tokens are spent.
REFRESH_SECONDS = 5.0
# A browser takes six at most, and MAX_FOLLOWERS pages may be open.
_MAX_CONNECTIONS = 256
_PART = 0.1
_HTML = "text/html; charset=utf-8"
_ASSETS = {"style.css": "text/css", "live.js": "text/javascript"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WebPageError(EpadError):
    """The page's address could not be listened on."""


class _RefusedError(EpadError):
    """An order of the page is not carried out; `status` is that of the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class WebPage:
    """Serves the page. Reading is for whoever is on this machine, as the metrics are; orders need the token.

    `proxy_place` is the socket and the token's file of an authenticating reverse proxy, where `[web.proxy]` names one.
    """

    def __init__(
        self,
        config: WebConfig,
        operations: Operations,
        reports: Reports,
        token_file: Path,
        alerts: AlertDoor,
        persons: Callable[[], Collection[Person]] = tuple,
        proxy_place: tuple[Path, Path] | None = None,
    ) -> None:
        self._persons = persons
        self._proxy_place = proxy_place
        self._proxied: Site | None = None
        self._go_by(config)
        self._operations = operations
        self._reports = reports
        self._token_file = token_file
        self._token = PageToken()
        self._alerts = alerts
        self._peer = Peer(os.getpid(), os.geteuid(), ())
        self._followers: set[asyncio.Task[Any]] = set()
        self._site: Site | None = None
        self.url = ""
        """Where it is now; empty while it is nowhere."""
        self._log = structlog.get_logger("epad.web")

    async def start(self) -> str:
        """Listen and return the URL; an empty `listen` means off. Raises WebPageError."""
        self.url = ""
        if not self._config.listen:
            return ""
        try:
            # A reload starts the page again: a token of before must not outlive what it was for.
            self._token = make_token(self._token_file) if self._config.orders else PageToken()
            if self._config.alerts:
                self._alerts.open()
            else:
                self._alerts.shut()
        except OSError as error:
            raise WebPageError(f"{error.filename}: {error.strerror}: make it writable") from error
        app = self._application(self._guarded)
        self._site = Site(app, "page", share(_PART, _MAX_CONNECTIONS), 2.0)
        try:
            address = await self._site.listen(self._config.listen)
        except OSError as error:
            raise WebPageError(
                f'web.listen = {self._config.listen!r}: {error.strerror}: choose another port, or "" for none'
            ) from error
        self.url = url(address)
        await self._listen_to_proxy()
        return self.url

    def _application(self, guarded: Any) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[guarded])
        app.add_routes(
            [
                web.get("/", self._overview),
                web.get("/main", self._main),
                web.get("/live", self._live),
                web.get("/subsystems/{name}", self._detail),
                web.get("/subsystems/{name}/reports/{report:.+}", self._report),
                web.post("/subsystems/{name}/orders", self._order),
                web.get("/approvals", self._approvals),
                web.post("/approvals", self._answer),
                web.post("/alerts", self._alerts.receive),
                *(web.get(f"/{name}", _asset(name)) for name in _ASSETS),
            ]
        )
        return app

    async def _listen_to_proxy(self) -> None:
        """Open the socket of the reverse proxy, if there is to be one. Raises WebPageError."""
        config = self._config.proxy
        if config is None or self._proxy_place is None:
            return
        path, token_file = self._proxy_place
        try:
            proxy = Proxy(config, keep_token(token_file).value, self._persons)
            server = bind(path)
        except (OSError, ControlSocketError) as error:
            raise WebPageError(f"[web.proxy]: {error}") from error

        @web.middleware
        async def vouched(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                request[CALLER] = proxy.caller(request)
            except NoPersonError as error:
                response = _error(403, str(error))
                response.headers.update(guard.SECURITY_HEADERS)
                return response
            return await self._guarded(request, handler)

        self._proxied = Site(self._application(vouched), "proxied page", share(_PART, _MAX_CONNECTIONS), 2.0)
        await self._proxied.listen_on(server)

    async def stop(self) -> None:
        """End the streams and close."""
        for task in tuple(self._followers):
            task.cancel()
        if self._site is not None:
            await self._site.stop()
            self._site = None
        if self._proxied is not None and self._proxy_place is not None:
            self._proxy_place[0].unlink(missing_ok=True)
            await self._proxied.stop()
            self._proxied = None
        self.url = ""

    async def move(self, config: WebConfig) -> str:
        """Serve the page of this configuration from now on, and return the URL.

        Raises WebPageError, and then nothing has changed.
        """
        former = self._config
        await self.stop()
        try:
            self._go_by(config)
            return await self.start()
        except WebPageError:
            self._go_by(former)
            await self.start()
            raise

    def _go_by(self, config: WebConfig) -> None:
        self._config, self._hosts = config, frozenset(config.hosts)

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse strangers' names for us, and put the security headers on every answer."""
        wrong = guard.refuse_host(request.host, self._hosts)
        try:
            response = _error(421, wrong) if wrong else await handler(request)
        except ConnectionError:
            raise
        except web.HTTPException as error:
            response = _error(error.status, error.reason)
        except _RefusedError as error:
            response = _error(error.status, str(error))
        except UnknownNameError as error:
            response = _error(404, str(error))
        except ReportError as error:
            response = _error(404, str(error))
        except Exception:
            self._log.exception("web.failed", method=request.method, path=request.path)
            response = _error(500, "this page could not be made; the daemon's log says why")
        if not response.prepared:
            for name, value in guard.SECURITY_HEADERS.items():
                response.headers.setdefault(name, value)
        return response

    async def _overview(self, _: web.Request) -> web.Response:
        return _page(overview_page(await self._view()))

    async def _main(self, _: web.Request) -> web.Response:
        return _page(overview_main(await self._view()).encode())

    async def _view(self) -> Overview:
        phase = await self._operations.phase()
        events = await self._operations.events(-SHOWN_EVENTS, SHOWN_EVENTS)
        approvals = self._operations.approvals()
        return Overview(self._operations.status(), phase["history"][-10:], events, approvals)

    async def _approvals(self, request: web.Request) -> web.Response:
        return _page(self._render_approvals(request))

    def _render_approvals(self, request: web.Request, *notices: str) -> bytes:
        status, approvals = self._operations.status(), self._operations.approvals()
        return approvals_page(Questions(status, approvals, self._key_of(request), notices))

    def _key_of(self, request: web.Request) -> str:
        """Say what lets a request give orders: the token's file, or the sign-in; empty if nothing does."""
        if CALLER not in request:
            return self._token.file
        return SIGNED_IN if self._config.orders else ""

    async def _detail(self, request: web.Request) -> web.Response:
        return _page(await self._render_detail(request, request.match_info["name"]))

    async def _render_detail(self, request: web.Request, name: str, *notices: str) -> bytes:
        status = self._operations.status()
        known = {subsystem["name"]: subsystem for subsystem in status["subsystems"]}
        if name not in known:
            raise UnknownSubsystemError(name, tuple(known))
        explanation = await self._operations.explain(name)
        reports = await asyncio.to_thread(self._reports.of, name)
        view = Detail(
            status, known[name], explanation["chain"][-100:], reports, self._key_of(request), notices
        )
        return detail_page(view)

    async def _report(self, request: web.Request) -> web.Response:
        name, report = request.match_info["name"], request.match_info["report"]
        await self._render_detail(request, name)  # a subsystem that is not configured has no reports to show
        content = await asyncio.to_thread(self._reports.read, name, report)
        return web.Response(
            body=content, headers={"Content-Type": _HTML, "Content-Security-Policy": REPORT_POLICY}
        )

    async def _order(self, request: web.Request) -> web.Response:
        """Carry out an order about a subsystem."""
        name = request.match_info["name"]
        form = await self._form_with_token(request)
        operation = next((order for order in PAGE_ORDERS if order == form.get("order")), None)
        reason = str(form.get("reason", "")).strip()[:MAX_REASON_CHARACTERS]
        if operation is None or not reason:
            return _error(400, f"an order is {' or '.join(PAGE_ORDERS)}, and gives its reason")
        said = _said(await self._give(request, operation, name, OrderBody(reason)))
        return _page(await self._render_detail(request, name, f"{operation}: {said}"))

    async def _answer(self, request: web.Request) -> web.Response:
        """Answer a question of a subsystem, or take an approval back."""
        form = await self._form_with_token(request)
        try:
            answer = read_answer(form)
        except ApprovalFormError as error:
            return _error(400, str(error))
        if not answer.is_asked(self._operations.approvals()):
            return _error(
                409, f"question {answer.number} is not about {answer.place} any more: open the page again"
            )
        return _page(
            self._render_approvals(
                request, _said(await self._give(request, answer.operation, answer.name, answer.body))
            )
        )

    async def _form_with_token(self, request: web.Request) -> Mapping[str, object]:
        """Return the form of a request from the page itself, with the right token. Raises _RefusedError."""
        if wrong := guard.refuse_origin(request.headers, request.host):
            raise _RefusedError(403, wrong)
        form = await _form(request)
        if self._key_of(request) == SIGNED_IN:
            return form
        if wrong := guard.refuse_token(str(form.get("token", "")), self._token.value):
            raise _RefusedError(403, wrong)
        return form

    async def _give(self, request: web.Request, operation: Operation, name: str, body: OrderBody) -> Result:
        """Give an order, through the gate like everyone's. Raises _RefusedError, UnknownNameError."""
        try:
            caller = request.get(CALLER) or by_token(self._persons())
        except NoPersonError as error:
            raise _RefusedError(403, str(error)) from error
        decision = allow(caller.tier, operation)
        await self._operations.audit(
            operation, caller.tier, allowed=decision.allowed, peer=self._peer, by=caller.name
        )
        if not decision.allowed:
            raise _RefusedError(403, f"{caller.described}: {decision.reason}; {caller.way_in}")
        try:
            return await self._operations.order(operation, name, body, caller.name)
        except ConflictError as error:
            raise _RefusedError(409, str(error)) from error
        except UnknownNameError:
            raise
        except OperationError as error:
            raise _RefusedError(500, str(error)) from error

    async def _live(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: an empty word whenever the page should be looked at anew."""
        task = asyncio.current_task()
        if task is None or len(self._followers) >= MAX_FOLLOWERS:
            return _error(503, f"{MAX_FOLLOWERS} pages are open already: close one")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **guard.SECURITY_HEADERS})
        self._followers.add(task)
        try:
            await response.prepare(request)
            async with self._operations.subscribe() as queue:
                while True:
                    await _something(queue)
                    await response.write(b"data:\n\n")
        except (asyncio.CancelledError, ConnectionError):
            pass  # the daemon stops, or the reader has gone: either way the stream ends here
        finally:
            self._followers.discard(task)
        return response


async def _something(queue: asyncio.Queue[Event]) -> None:
    """Wait for an event, or for the time after which the page is stale anyhow; many events at once are one."""
    try:
        async with asyncio.timeout(REFRESH_SECONDS):
            await queue.get()
    except TimeoutError:
        return
    while not queue.empty():
        queue.get_nowait()


def _said(result: Result) -> str:
    return "; ".join(str(text) for text in result["results"])


async def _form(request: web.Request) -> Mapping[str, object]:
    try:
        return await request.post()
    except (ValueError, LookupError) as error:  # bytes that are no text, or an encoding that there is not
        raise web.HTTPBadRequest(reason="the form cannot be read: send it as UTF-8") from error


def _asset(name: str) -> Handler:
    content = resources.files("epad.web").joinpath(name).read_bytes()

    async def serve(_: web.Request) -> web.Response:
        return web.Response(body=content, headers={"Content-Type": f"{_ASSETS[name]}; charset=utf-8"})

    return serve


def _page(content: bytes) -> web.Response:
    return web.Response(body=content, headers={"Content-Type": _HTML})


def _error(status: int, message: str) -> web.Response:
    return web.Response(status=status, body=error_page(status, message), headers={"Content-Type": _HTML})
